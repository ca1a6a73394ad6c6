-- migrate:up
create table assets (
    id uuid primary key,
    owner text not null,
    name text not null,
    content_type text not null,
    size_bytes bigint not null,
    sha256 text not null,
    created_at timestamptz not null default now()
);
create index assets_of_owner on assets (owner, created_at desc, id);

-- migrate:down
drop table assets;
