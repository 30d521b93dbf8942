-- Version 2. It is said as a whole, in one transaction, and all that is there already
-- stays as it is. A runner of before and one of after a new version work on the same
-- tables, so that a version only adds: tables, columns with defaults, indices. One
-- that cannot says in oldest which version runners must be made for to go on.

select pg_advisory_xact_lock(7305812); -- another may be at it; the number is only this queue's
create schema if not exists studioml;
create table if not exists studioml.schema (version integer primary key, since timestamptz not null default now());
alter table studioml.schema add column if not exists oldest integer not null default 1;
insert into studioml.schema (version) values (2) on conflict do nothing;

-- One row is one task, and the whole truth about it.
create table if not exists studioml.task (
  id         text primary key,
  document   bytea not null, -- as submitted; never changed
  -- Where it is in the queue: by class, in it by rank (the negative priority, so
  -- that all is ascending), then by the time from which it may start, which is that
  -- of its submit, or of a retry and its pause.
  gpus       integer not null,
  gpu_memory bigint not null,
  rank       smallint not null default 0,
  place      timestamptz not null default clock_timestamp(),
  seq        bigint generated always as identity,
  state      text not null default 'Waiting' check (state in ('Waiting', 'Running', 'Finished', 'Dead', 'Cancelled')),
  run        integer not null default 1, -- one more for each retry by its owner
  starts     integer not null default 0, -- attempts begun
  spent      integer not null default 0, -- of this run, those that the task failed
  deaths     integer not null default 0, -- those begun that no runner told the end of
  -- The claim is another at each fetch. After its end it stays, so that an end that
  -- is told twice, because the answer got lost, is known.
  claim      uuid,
  runner     text,
  gpus_held  text[],
  begun      boolean not null default false, -- the claim has begun its attempt, on gpus_held
  beat       timestamptz,                    -- the last sign of life of the claim
  lease      interval,                       -- for how long that holds
  cancel     boolean not null default false, -- its owner wants it stopped
  checkpoint uuid,                           -- the claim whose checkpoint is the last good one
  reason     text,                           -- why it is where it is, if that needs one
  changed    timestamptz not null default now()
);
alter table studioml.task add column if not exists expires timestamptz;
alter table studioml.task add column if not exists format smallint not null default 1; -- of the document
create index if not exists task_ready on studioml.task (gpus, gpu_memory, rank, place, seq) where state = 'Waiting';
create index if not exists task_claim on studioml.task (claim) where claim is not null;
create index if not exists task_ended on studioml.task (changed) where state in ('Finished', 'Dead', 'Cancelled');
create index if not exists task_dead on studioml.task (changed) where state = 'Dead';
create index if not exists task_expires on studioml.task (expires) where state = 'Waiting' and expires is not null;

-- What an attempt ended with: api.Result.
create table if not exists studioml.result (
  task     text not null references studioml.task on delete cascade,
  attempt  integer not null,
  claim    uuid not null unique,
  document bytea not null,
  primary key (task, attempt)
);

-- What it left behind, in pieces: stdout, stderr, and outputs and checkpoint as tar.
create table if not exists studioml.file (
  claim uuid not null,
  name  text not null,
  piece integer not null,
  data  bytea not null,
  primary key (claim, name, piece)
);
alter table studioml.file alter column data set storage external; -- stored as it is; much of it is compressed

-- What runners say that they can do: api.Offer. Who is silent has ended.
create table if not exists studioml.offer (
  runner   text primary key,
  document bytea not null,
  said     timestamptz not null
);
