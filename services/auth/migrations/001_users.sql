-- migrate:up
create table users (
    id uuid primary key,
    email text not null unique,
    password_hash text not null,
    scopes text[] not null default '{}',
    created_at timestamptz not null default now()
);

create table api_keys (
    id text primary key,
    user_id uuid not null references users (id) on delete cascade,
    name text not null,
    digest bytea not null,
    scopes text[] not null default '{}',
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);
create index api_keys_of_user on api_keys (user_id) where revoked_at is null;

create table signing_keys (
    kid text primary key,
    pem text not null,
    state text not null check (state in ('next', 'current', 'previous')),
    created_at timestamptz not null default now(),
    retired_at timestamptz
);
create unique index one_current_key on signing_keys (state) where state = 'current';
create unique index one_next_key on signing_keys (state) where state = 'next';

create table revoked_tokens (
    token_id text primary key,
    expires_at timestamptz not null
);
create index revoked_tokens_expiry on revoked_tokens (expires_at);

-- migrate:down
drop table revoked_tokens, signing_keys, api_keys, users;
