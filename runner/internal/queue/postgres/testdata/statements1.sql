-- All that the queue ever says to its server, but for what makes its tables
-- (schema.sql). Each statement has a name, by which the Go code says it, and the
-- reason why it is right. Each is a transaction of its own, so that no lock is held
-- while a runner thinks or is cut off, and a pooler that hands out connections for
-- a transaction suits. The server's clock is the only one. States are those of
-- api.TaskState.
--
-- The word studioml_wake is told wherever a task begins to wait. A runner without
-- work hears of it, and looks from time to time anyway, so that a word which is
-- lost costs seconds.

-- name: submit
-- submit puts tasks at the end of the queue, in order: the place is the clock's
-- at each row. A task whose id is known stays as it is; known says what it is.
with new as (
  insert into studioml.task (id, document, gpus, gpu_memory, rank)
  select id, document, gpus, gpu_memory, -priority
  from unnest($1::text[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[]) with ordinality
    as t (id, document, gpus, gpu_memory, priority, n)
  order by n
  on conflict do nothing
  returning id
), told as (select pg_notify('studioml_wake', '') where exists (select from new))
select id from new left join told on true

-- name: known
-- known says what the queue has under these ids, and whether with the very same
-- document, so that a submit can be repeated.
select t.id, t.state, t.document = n.document
from unnest($1::text[], $2::bytea[]) as n (id, document) join studioml.task t using (id)

-- name: waiting
-- waiting tells of each class and rank that waits how long its first task has to
-- wait still. It jumps from one to the next in the index, so that 100,000 tasks of
-- one class cost as much as one.
with recursive head as (
  (select gpus, gpu_memory, rank, place from studioml.task
   where state = 'Waiting' order by gpus, gpu_memory, rank, place, seq limit 1)
  union all
  select next.* from head, lateral (
    select t.gpus, t.gpu_memory, t.rank, t.place from studioml.task t
    where t.state = 'Waiting' and (t.gpus, t.gpu_memory, t.rank) > (head.gpus, head.gpu_memory, head.rank)
    order by t.gpus, t.gpu_memory, t.rank, t.place, t.seq limit 1) next
)
select gpus, gpu_memory, rank, place - now() from head order by rank, place

-- name: claim
-- claim takes the first task of a class and rank that may start now, by a claim
-- that was never used before. Rows that others are about to take are skipped, so
-- that nobody waits for anybody; the one that is chosen is locked until it is ours.
update studioml.task set state = 'Running', claim = gen_random_uuid(), runner = $4, lease = $5, beat = now(),
  begun = false, gpus_held = null, changed = now()
where id = (
  select id from studioml.task
  where state = 'Waiting' and gpus = $1 and gpu_memory = $2 and rank = $3 and place <= now()
  order by place, seq limit 1 for update skip locked)
returning claim::text, id, document, spent, deaths, coalesce(checkpoint, claim)::text, now()

-- name: begin
-- begin counts an attempt, once for each claim however often it is said. Until
-- its end is told it counts as a death of its runner as well.
update studioml.task set starts = starts + (not begun)::int, deaths = deaths + (not begun)::int, begun = true, gpus_held = $2
where claim = $1::text::uuid and state = 'Running'
returning starts

-- name: beat
-- beat is the sign of life of all claims of a runner. Claims that it does not
-- return are lost, or ended while it was under way.
update studioml.task set beat = now() where claim = any ($1::text[]::uuid[]) and state = 'Running'
returning claim::text, cancel

-- name: takeBack
-- takeBack lets the tasks of claims wait again that gave no sign of life for
-- their lease. A server that was away has heard nobody, so it gives all of them a
-- lease from its start. After an outage of the network it may arrive late, with what
-- others said in time just behind it, and then does nothing: $1 is time of just
-- before. What the attempt had stored goes, and the claim with it, so that nothing
-- which its runner still says changes the row.
with gone as (
  select id, claim, runner from studioml.task
  where state = 'Running' and greatest(beat, pg_postmaster_start_time()) + lease < now() and now() < $1::timestamptz + $2::interval
  limit 1000 for update skip locked
), back as (
  update studioml.task t set state = case when cancel then 'Cancelled' else 'Waiting' end,
    claim = null, runner = null, gpus_held = null, begun = false, cancel = false, changed = now()
  from gone where t.id = gone.id
), cleared as (
  delete from studioml.file where claim in (select claim from gone)
), told as (select pg_notify('studioml_wake', '') where exists (select from gone))
select id, runner from gone left join told on true

-- name: time
-- time is the server's time.
select now()

-- name: put
-- put stores a piece of what an attempt leaves behind, any number of times, but
-- only for the claim that has the task, and the lock keeps that so until the piece
-- is there. With the first piece goes what was stored of the file before.
with mine as (
  select claim from studioml.task where claim = $1::text::uuid and state = 'Running' for share
), cut as (
  delete from studioml.file f using mine where f.claim = mine.claim and name = $2 and piece > 0 and $3 = 0
)
insert into studioml.file (claim, name, piece, data) select claim, $2, $3, $4 from mine
on conflict (claim, name, piece) do update set data = excluded.data
returning piece

-- name: end
-- end ends a claim: the new state of the task, and the result of its attempt, in
-- one step, and only if the claim has the task still. It answers with the new state
-- if that is so now, done by this call or, if its answer got lost, by one before;
-- else with nothing. Without a pause the task keeps its place. A new checkpoint
-- takes the place of the last one, and success the need for any. Parts of outputs
-- were for those who watched; they are whole now.
with mine as (
  update studioml.task set
    state = case when cancel and $2 <> 'Finished' then 'Cancelled' else $2 end,
    place = coalesce(now() + $3::interval, place), spent = spent + $4, reason = nullif($5, ''),
    checkpoint = case when $2 = 'Finished' then null when $7 then claim else checkpoint end,
    deaths = deaths - begun::int, begun = false, cancel = false, gpus_held = null, changed = now()
  where claim = $1::text::uuid and state = 'Running'
  returning id, starts, claim, state, checkpoint
), stored as (
  insert into studioml.result (task, attempt, claim, document) select id, starts, claim, $6::bytea from mine where $6 is not null
), cleared as (
  delete from studioml.file f using mine, studioml.task old
  where old.id = mine.id and (f.claim = old.checkpoint and f.name = 'checkpoint/' and old.checkpoint is distinct from mine.checkpoint
    or f.claim = mine.claim and f.name like 'std%.%')
), told as (select pg_notify('studioml_wake', '') from mine where state = 'Waiting')
select state from mine left join told on true
union all
select state from studioml.task where claim = $1::text::uuid and state <> 'Running'
union all
select $2 from studioml.result where claim = $1::text::uuid
limit 1

-- name: file
-- file reads a piece.
select data from studioml.file where claim = $1::text::uuid and name = $2 and piece = $3

-- name: list
-- list tells of tasks, or of all: those that wait in the order in which they
-- would start if all runners could serve all classes, those that run, the rest. Only
-- a pause puts the place of a task after its last change.
select * from (
  select id, state, document,
    case when state = 'Waiting' then row_number() over (order by state <> 'Waiting', rank, place, seq) else 0 end as position,
    case when state = 'Waiting' and spent > 0 and place > changed then place end as not_before,
    changed, starts, spent, case when state = 'Running' then runner else '' end as runner, gpus_held, coalesce(reason, '') as reason, gpus, gpu_memory
  from studioml.task
  order by state <> 'Waiting', state <> 'Running', rank, place, seq) as everything
where $1::text[] is null or id = any ($1)

-- name: cancel
-- cancel ends a task that waits, and asks the runner of one that runs to stop
-- it, which it hears with its next sign of life. It returns what the task was.
with old as (select id, state from studioml.task where id = $1 for update), cancelled as (
  update studioml.task t set cancel = old.state = 'Running', state = case when old.state = 'Waiting' then 'Cancelled' else old.state end,
    changed = case when old.state = 'Waiting' then now() else changed end
  from old where t.id = old.id and old.state in ('Waiting', 'Running')
)
select state from old

-- name: again
-- again lets a task that has ended wait once more, as a new run, at the end of
-- the queue. It returns what the task was.
with old as (select id, state from studioml.task where id = $1 for update), again as (
  update studioml.task t set state = 'Waiting', run = run + 1, spent = 0, deaths = 0, place = clock_timestamp(), reason = null, changed = now()
  from old where t.id = old.id and old.state not in ('Waiting', 'Running')
  returning t.id
), told as (select pg_notify('studioml_wake', '') from again)
select state from old left join told on true

-- name: purge
-- purge forgets a number of tasks that ended before a time, with their results.
with gone as (
  delete from studioml.task where id in (
    select id from studioml.task where state in ('Finished', 'Dead', 'Cancelled') and changed < $1 limit $2)
  returning id, checkpoint
), cleared as (
  delete from studioml.file where claim in (
    select claim from studioml.result r join gone on r.task = gone.id union select checkpoint from gone)
)
select id from gone

-- name: announce
-- announce keeps what a runner says that it can do.
insert into studioml.offer values ($1, $2, now())
on conflict (runner) do update set document = excluded.document, said = excluded.said returning runner

-- name: offers
-- offers are of all runners that have said so lately.
select document from studioml.offer where said > now() - interval '30 s' order by runner

-- name: results
-- results reads the results of a task.
select document from studioml.result where task = $1 order by attempt

-- name: names
-- names finds the claim of an attempt, of one that has ended or of the one that
-- runs, and the names of its files.
select distinct c.claim::text, coalesce(f.name, '') from (
  select claim from studioml.result where task = $1 and attempt = $2
  union all
  select claim from studioml.task where id = $1 and starts = $2 and state = 'Running' and begun
) c left join studioml.file f on f.claim = c.claim

-- name: lacks
-- lacks says what the user may not do, table by table, of what the queue needs.
select p || ' on ' || t from unnest(array['studioml.task', 'studioml.result', 'studioml.file']) t,
  unnest(array['select', 'insert', 'update', 'delete']) p
where not has_table_privilege(t, p)

-- name: lock
-- lock keeps others from changing the schema at the same time, until the end of
-- the transaction. The number is only this queue's.
select pg_advisory_xact_lock(7305812)

-- name: place
-- place makes the place for the schema and its version.
create schema if not exists studioml;
create table if not exists studioml.schema (version integer primary key, since timestamptz not null default now())

-- name: version
-- version says which version of the schema is there.
select coalesce(max(version), 0) from studioml.schema

-- name: versionIs
-- versionIs records that another one is.
insert into studioml.schema (version) values ($1)

-- name: listen
-- listen lets the connection hear of what begins to wait.
listen studioml_wake
