// Package slots has the parts of a bounded set of slots: the word with the number of slots in
// use ([Load]), the queue for them ([Queue]), the queued work by urgency ([Backlog]), the
// predicted ends of runs ([Runs]) and the work under way ([UnderWay]). It knows neither jobs
// nor routers, takes the time as an argument and starts no goroutine. Its user handles the
// ownership of slots and wakes requesters.
//
// # When a slot comes
//
// A slot is free, or the first of the queue gets the next. The queue is ordered by due time,
// then by arrival: earliest deadline first meets all deadlines that can be met (Liu and
// Layland, 1973). For a job that would be due in d, let
//
//	a_1 ≤ … ≤ a_n   be the predicted ends of the runs in the n slots; in 50 µs at the latest for
//	                those that would hand their slot over to it
//	w               be the work in the queue that is due within d, in k jobs
//
// Then its slot comes when k jobs of w/k each have been dealt out, each to the slot that is
// free first (list scheduling: Graham, "Bounds for certain multiprocessing anomalies", 1966).
// Many jobs are treated as a fluid instead (water filling). Neither reads the queue itself: the
// queued work is counted in doubling classes of d, the ends of the runs in a table of atomic
// words.
package slots
