// Package postgres is the queue of a fleet, in a PostgreSQL server, 15 or newer.
//
// A row is a task and the whole truth about it; schema.sql says what is in it, and
// statements.sql has all that is ever said to the server. A runner that fetches a
// task writes its claim into the row, a number that was never used before, and every
// later change names the claim that it rests on. If another has the row by then, or
// nobody, nothing is changed, and the runner learns it from that.
//
// A claim lives by a lease, which the runner renews for all its claims at once every
// third of it. Whoever looks for work gives back what was not renewed, but only what
// is due to a runner and not to the server or the network between: that is, after
// one lease in which the server was up and this runner has reached it all the time.
// So an outage for all costs no claim. A runner that cannot reach the server goes on
// with its tasks: it cannot know whether it alone is cut off. When it is back, the
// first renewal tells it which claims it has lost, and these tasks are stopped.
//
// What attempts leave behind is stored in pieces before their end is told, and is
// found by the claim; the end, with the result, is one statement. An attempt that died
// with its runner has a result, too, made by whoever took its task back.
//
// A runner listens, and so holds a connection while it looks for work, and one while
// it has tasks; storing files takes two more for a time. max_connections is therefore
// twice the runners at least, with as much to spare as store at once, at 2 MiB of the
// server's memory each. 1,000 idle runners say 120 statements a second, a hundredth of
// a core; each task that comes wakes all of them, and they look once each. For more,
// pgbouncer lends a few connections to all, for a transaction each (pool_mode =
// transaction): then nobody hears anything, a task waits up to 30 s for an idle runner,
// and a cancel up to 10 s for the task's. Without idle runners nothing is slower.
//
// With several hosts in the URL the one that can be written to is used, whatever
// target_session_attrs says or not; synchronous replication makes sure that a standby
// which takes over knows of all that was answered. A server that was killed shows also
// what it had not passed on; so a runner's connection begins by waiting for the standby.
package postgres
