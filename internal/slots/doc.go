// Package slots has what a bounded set of slots is made of: the word that says how many are
// taken ([Load]), the queue for them ([Queue]), what waits in it by urgency ([Backlog]),
// until when the slots are taken ([Runs]) and the work under way in them ([UnderWay]). It
// knows neither jobs nor routers, is given the time and starts nothing. Who owns a slot, and
// who is woken when, is the business of its user.
//
// # When a slot comes
//
// A slot is free, or the first of the queue gets the next. The queue is ordered by due time,
// then by arrival: earliest deadline first meets all deadlines that can be met (Liu and
// Layland, 1973). For a job that would be due in d, let
//
//	a_1 ≤ … ≤ a_n   be when the runs in the n slots are predicted to end
//	w               be the work in the queue that is due within d, in k jobs
//
// Then its slot comes when k jobs of w/k each have been dealt out, each to the slot that is
// free first (list scheduling: Graham, "Bounds for certain multiprocessing anomalies", 1966).
// Many jobs are poured out like water instead. Neither looks at the queue itself: the work in
// it is kept by doubling classes of d, the ends of the runs in a table of atomic words.
package slots
