(()=>{'use strict';
const $=(s,r=document)=>r.querySelector(s),body=document.body,live=$('#live'),STALE=15000,QUIET=5000;
let heard=Date.now(),read=Date.now(),busy=false,again=false,timer=0;
const ago=ms=>{const s=Math.max(0,Math.round(ms/1000));return s<90?s+' s':Math.round(s/60)+' min'};

/* Makes one element like another, touching only what differs, so that focus, open rows and selections stay. */
function like(a,b){
  for(const {name} of [...a.attributes])if(name!=='open'&&!b.hasAttribute(name))a.removeAttribute(name);
  for(const {name,value} of b.attributes)if(name!=='open'&&a.getAttribute(name)!==value)a.setAttribute(name,value);
  const keyed=new Map([...a.children].filter(n=>n.id).map(n=>[n.id,n]));
  let at=a.firstChild;
  for(const want of [...b.childNodes]){
    const same=want.id&&keyed.get(want.id);
    if(same&&same!==at){a.insertBefore(same,at);at=same}
    if(at&&at.nodeType===want.nodeType&&at.nodeName===want.nodeName&&(at.id||'')===(want.id||'')){
      if(at.nodeType===1)like(at,want);else if(at.data!==want.data)at.data=want.data;
      at=at.nextSibling;
    }else a.insertBefore(document.importNode(want,true),at);
  }
  while(at){const gone=at;at=at.nextSibling;gone.remove()}
}

async function refresh(){
  if(busy){again=true;return}
  busy=true;
  try{
    const url=new URL(location.href);url.hash='';url.searchParams.set('part','view');
    const answer=await fetch(url,{cache:'no-store',signal:AbortSignal.timeout(8000)});
    if(!answer.ok)throw new Error(answer.status);
    const fresh=$('#view',new DOMParser().parseFromString(await answer.text(),'text/html')),view=$('#view');
    const find=$('.find'),typed=find&&find.value;
    like(view,fresh);
    if(find&&$('.find'))$('.find').value=typed;
    const {title,icon,alerts}=view.dataset,n=$('#n-alerts');
    document.title=title;if($('#fav').getAttribute('href')!==icon)$('#fav').setAttribute('href',icon);
    n.textContent=alerts;n.hidden=alerts==='0';
    heard=read=Date.now();
  }catch{/* the header says how long nothing was heard */}
  busy=false;
  if(again){again=false;soon()}
}
const soon=()=>{clearTimeout(timer);timer=setTimeout(refresh,Math.max(60,500-(Date.now()-read)))};

function tell(event){
  heard=Date.now();soon();
  try{const e=JSON.parse(event.data);if(e.subject)$('#polite').textContent=e.subject+' in '+e.env+' is now '+e.state}catch{}
}
const source=new EventSource('/api/v1/events?after='+$('#view').dataset.seq);
for(const kind of ['target','alert','notification','change','agent','reset'])source.addEventListener(kind,tell);
source.onopen=()=>{heard=Date.now();soon()};

setInterval(()=>{
  const now=Date.now();
  if(!document.hidden&&now-read>QUIET&&!busy)refresh();
  const lost=now-heard>STALE&&now-read>STALE;
  body.classList.toggle('is-lost',lost);live.classList.toggle('lost',lost);
  $('#live-t').textContent=lost?'Feed lost':'Live';
  $('#live-a').textContent=ago(now-read)+' ago';
  $('#lost-for').textContent=ago(now-read);
},1000);
document.addEventListener('visibilitychange',()=>{if(!document.hidden)refresh()});
addEventListener('hashchange',()=>{const t=document.getElementById(location.hash.slice(1));if(t&&t.tagName==='DETAILS')t.open=true});
})();
