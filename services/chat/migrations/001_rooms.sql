-- migrate:up
create table rooms (
    id text primary key,
    title text not null,
    owner text not null,
    created_at timestamptz not null default now()
);
insert into rooms (id, title, owner) values ('lobby', 'Lobby', 'platform');

create table messages (
    id uuid primary key,
    seq bigint generated always as identity,
    room text not null references rooms (id) on delete cascade,
    author text not null,
    kind text not null check (kind in ('user', 'assistant')),
    text text not null,
    in_reply_to uuid,
    provider text,
    created_at timestamptz not null default now()
);
create unique index messages_in_order on messages (room, seq);
create unique index one_reply on messages (in_reply_to) where in_reply_to is not null;

-- migrate:down
drop table messages, rooms;
