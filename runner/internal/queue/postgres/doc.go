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
// found by the claim; the end, with the result, is one statement.
package postgres
