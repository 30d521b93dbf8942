-- All that the queue ever says to its server, but for what makes its tables
-- (schema.sql). Each statement has a name, by which the Go code says it, and the
-- reason why it is right. Each is a transaction of its own, so that no lock is held
-- while a runner thinks or is cut off, and a pooler that hands out connections for
-- a transaction suits. The server's clock is the only one. It may be set back, or a
-- standby's be behind it: a time that is later than any could be then counts for
-- nothing. States are those of api.TaskState.
--
-- The word studioml_wake is told wherever a task begins to wait, and with a claim
-- where that is to be stopped. Runners hear of it, and look from time to time anyway,
-- so that a word which is lost costs seconds.

-- name: submit
-- submit puts tasks at the end of the queue, in order, up to the first whose id
-- another task has: the place is the clock's at each row. It says of each what it
-- was before, and whether it is the very same, so that a submit can be repeated. The
-- update of one that is there changes nothing, and returns it even if it is new to
-- this statement.
with new as (
  select t->>'id' as id, convert_to(t::text, 'UTF8') as document, (t->>'expires')::timestamptz as expires, n,
    coalesce((t#>>'{resources,gpus}')::integer, 0) as gpus, coalesce((t#>>'{resources,gpuMemory}')::bigint, 0) as gpu_memory,
    coalesce(-(t->>'priority')::integer, 0) as rank, coalesce((t->>'format')::integer, 1) as format
  from json_array_elements($1::json) with ordinality as a (t, n)
), clash as (
  select min(n) as n from new join studioml.task t using (id) where t.document <> new.document
), put as (
  insert into studioml.task (id, document, gpus, gpu_memory, rank, expires, format)
  select id, document, gpus, gpu_memory, rank, expires, format
  from new, clash where new.n < coalesce(clash.n, new.n + 1) order by new.n
  on conflict (id) do update set run = task.run
  returning id, document, case when xmax = 0 then '' else state end as before
), told as (select pg_notify('studioml_wake', '') where exists (select from put where before = ''))
select new.id, coalesce(before, ''), coalesce(put.document = new.document, false)
from new left join put using (id) left join told on true order by n

-- name: waiting
-- waiting tells of each class and rank that waits how long its first task has to
-- wait still. It jumps from one to the next in the index, so that 100,000 tasks of
-- one class cost as much as one. What only a newer runner understands is not seen. No
-- task pauses for as long as $2.
with recursive head as (
  (select gpus, gpu_memory, rank, place from studioml.task
   where state = 'Waiting' and format <= $1 order by gpus, gpu_memory, rank, place, seq limit 1)
  union all
  select next.* from head, lateral (
    select t.gpus, t.gpu_memory, t.rank, t.place from studioml.task t
    where t.state = 'Waiting' and format <= $1 and (t.gpus, t.gpu_memory, t.rank) > (head.gpus, head.gpu_memory, head.rank)
    order by t.gpus, t.gpu_memory, t.rank, t.place, t.seq limit 1) next
)
select gpus, gpu_memory, rank, case when place > now() + $2::interval then interval '0' else place - now() end from head order by rank, place

-- name: claim
-- claim takes the first task of a class and rank that may start now, by a claim
-- that was never used before. Rows that others are about to take are skipped, so
-- that nobody waits for anybody; the one that is chosen is locked until it is ours.
update studioml.task set state = 'Running', claim = gen_random_uuid(), runner = $4, lease = $5, beat = now(),
  begun = false, gpus_held = null, changed = now()
where id = (
  select id from studioml.task
  where state = 'Waiting' and gpus = $1 and gpu_memory = $2 and rank = $3 and (place <= now() or place > now() + $7::interval) and format <= $6
  order by place, seq limit 1 for update skip locked)
returning claim::text, document, id, spent, coalesce(checkpoint, claim)::text, now()

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

-- name: clear
-- clear buries what nobody has started in time: whoever fetches such a task does so
-- as well, but there are those that no runner can take. And it lets the tasks of
-- claims wait again that gave no sign of life for their lease. A server that was away
-- has heard nobody, so it gives all of them a lease from its start. After an outage of
-- the network it may arrive late, with what others said in time just behind it, and
-- then takes nothing back: $1 is time of just before. The claim goes, so that nothing
-- which its runner still says changes the row. What the attempt had stored so far is
-- left, with a line about its end, which is not the word of the runner. A task that
-- kills its runners is buried some day. A beat that is to come yet is one of now, from
-- which its runner has a lease. $3 is the one task to look at, or null.
with ahead as (
  update studioml.task set beat = now()
  where id in (select id from studioml.task where state = 'Running' and beat > now() + lease for update skip locked)
), gone as (
  select * from studioml.task
  where state = 'Running' and greatest(beat, case when pg_postmaster_start_time() < now() then pg_postmaster_start_time() end) + lease < now() and now() < $1::timestamptz + $2::interval
    and ($3::text is null or id = $3)
  limit 1000 for update skip locked
), back as (
  update studioml.task t set
    state = case when t.cancel then 'Cancelled' when t.deaths >= 10 then 'Dead' else 'Waiting' end,
    reason = case when not t.cancel and t.deaths >= 10 then t.deaths || ' runners died while they ran it, and no more try it' end,
    claim = null, runner = null, gpus_held = null, begun = false, cancel = false, changed = now()
  from gone where t.id = gone.id returning t.id, t.state
), line as (
  insert into studioml.result (task, attempt, claim, document)
  select id, starts, claim, convert_to(json_build_object('task', id, 'attempt', starts, 'outcome', 'MachineFailed', 'exitCode', -1,
    'reason', 'its runner gave no sign of life any more', 'started', changed, 'finished', beat,
    'runner', runner, 'gpus', gpus_held)::text, 'UTF8') from gone where begun
), expired as (
  update studioml.task set state = 'Dead', changed = now(),
    reason = 'it expired at ' || to_char(expires at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
  where id in (select id from studioml.task where state = 'Waiting' and expires < now() and $3::text is null limit 1000 for update skip locked)
  returning id, state, reason
), told as (select pg_notify('studioml_wake', '') where exists (select from gone))
select id, back.state, 'runner ' || gone.runner || ' gives no sign of life' from gone join back using (id) left join told on true
union all select * from expired

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
-- were for those who watched, and all that is stored without a result. What one before
-- has done can be seen before a standby has it: the answer waits for that as settle does.
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
    or f.claim = mine.claim and ($6::bytea is null or f.name like 'std%.%'))
), told as (select pg_notify('studioml_wake', '') from mine where state = 'Waiting')
select state from mine left join told on true
union all
select state from studioml.task, pg_logical_emit_message(true, 'studioml', '') where claim = $1::text::uuid and state <> 'Running'
union all
select $2 from studioml.result, pg_logical_emit_message(true, 'studioml', '') where claim = $1::text::uuid and document = $6
limit 1

-- name: drop
-- drop removes the files that an attempt has no more, all but these.
delete from studioml.file where claim = $1::text::uuid and not name = any ($2)

-- name: file
-- file reads a piece.
select data from studioml.file where claim = $1::text::uuid and name = $2 and piece = $3

-- name: list
-- list tells of tasks, or of all: those that wait in the order in which they
-- would start if all runners could serve all classes, those that run, the rest. One
-- whose lease is over waits for whoever looks for work. Only a pause puts the place of
-- a task after its last change.
select * from (
  select id, seen, document,
    case when seen = 'Waiting' then row_number() over (order by seen <> 'Waiting', rank, place, seq) else 0 end as position,
    case when state = 'Waiting' and spent > 0 and place > changed and place <= now() + $2::interval then place end as not_before,
    case when seen = state then changed else beat end, starts, spent, case when seen = 'Running' then runner else '' end as runner,
    case when seen = 'Running' then gpus_held end,
    case when seen = state then coalesce(reason, '')
      else 'runner ' || runner || ' has given no sign of life since ' || to_char(beat at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') end,
    gpus, gpu_memory
  from studioml.task, lateral (
    select case when state = 'Running' and greatest(beat, case when pg_postmaster_start_time() < now() then pg_postmaster_start_time() end) + lease < now() then 'Waiting' else state end as seen) as look
  order by seen <> 'Waiting', seen <> 'Running', rank, place, seq) as everything
where $1::text[] is null or id = any ($1)

-- name: length
-- length counts what waits and what is dead, each in an index that has no more than that.
select 'Waiting', count(*) from studioml.task where state = 'Waiting'
union all select 'Dead', count(*) from studioml.task where state = 'Dead'

-- name: cancel
-- cancel ends a task that waits, and asks the runner of one that runs to stop
-- it. It returns what the task was.
with old as (
  select id, claim, state from studioml.task where id = $1 for update
), cancelled as (
  update studioml.task t set cancel = old.state = 'Running', state = case when old.state = 'Waiting' then 'Cancelled' else old.state end,
    changed = case when old.state = 'Waiting' then now() else changed end
  from old where t.id = old.id and old.state in ('Waiting', 'Running')
), told as (select pg_notify('studioml_wake', claim::text) from old where state = 'Running')
select state from old left join told on true

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
select convert_from(document, 'UTF8')::json from studioml.offer where said between now() - interval '30 s' and now() + interval '30 s' order by runner

-- name: results
-- results reads the results of a task.
select convert_from(document, 'UTF8')::json from studioml.result where task = $1 order by attempt

-- name: names
-- names finds the claim of an attempt, of one that has ended or of the one that
-- runs, and the names of its files.
select distinct c.claim::text, coalesce(f.name, '') from (
  select claim from studioml.result where task = $1 and attempt = $2
  union all
  select claim from studioml.task where id = $1 and starts = $2 and state = 'Running' and begun
) c left join studioml.file f on f.claim = c.claim

-- name: check
-- check says which version of the schema is there, which one a runner must be made
-- for at least, and what the user may not do, table by table, of what a queue needs.
select coalesce(max(version), 0), coalesce(max(oldest), 0), (
  select coalesce(string_agg(p || ' on ' || t, ', '), '')
  from unnest(array['studioml.task', 'studioml.result', 'studioml.file', 'studioml.offer']) t, unnest(array['select', 'insert', 'update', 'delete']) p
  where not has_table_privilege(t, p))
from studioml.schema

-- name: version
-- version says which version of the schema is there, for one that may be older.
select coalesce(max(version), 0) from studioml.schema

-- name: listen
-- listen lets the connection hear of what is told.
listen studioml_wake

-- name: settle
-- settle ends when a synchronous standby, where there is one, has all that was seen
-- before. What waited for that when a server was killed can be seen afterwards, and
-- yet be lost when the standby takes over.
select pg_logical_emit_message(true, 'studioml', '')::text
