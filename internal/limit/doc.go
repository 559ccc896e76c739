// Package limit learns how many calls a downstream (a database, another service, a disk)
// can have in flight at a time. It knows neither tickets nor routers, is given the time and
// starts nothing, so that the same calls always give the same limit.
//
// # The idea
//
// By Little's law (J. D. C. Little, "A proof for the queuing formula L = λW", 1961) a
// downstream that ends X calls a second has X·T of them in flight when each takes T. So to
// have calls take a time T of our choice, let
//
//	L = X·T
//
// be in flight. If the downstream could do more than X, then L calls take less than T, X
// rises, and L with it; if it can do less, they take longer, X falls, and L with it. There is
// nothing to tune, no gradient to estimate and no additive step: the limit follows the
// capacity as fast as X can be measured, in both directions.
//
// T is chosen between base, the latency of calls that find little else in flight, and the
// budget B: as little queue as keeps the downstream busy, and leaves those calls that take
// longer than others their time.
//
//	T = base + min((B − base) / (2 + 6·min(cv, 1)), max(8·base, 20 ms))
//	T ≥ base·(1 + 2·cv/√(X·base) + 2·cv/√n)     but at most the middle of base and B
//	T = max(8·base, 50 ms)                      without a budget
//
// cv is the coefficient of variation of the latency, n the number of calls that base rests
// on: what varies by chance is not taken for a queue. Without this a downstream of which
// one call in ten takes a hundred times as long as the others loses half of its capacity.
//
// # When there is a limit
//
// A downstream that is not the bottleneck has none, however many calls are in flight. A limit
// is set when the mean latency exceeds 1.5·T (at least half of the budget, where that is
// within 3·T), or the calls in flight, divided by X, will: the queue that stands is seen
// long before it has been waited for. It is lifted when it was not needed for a second.
//
// # What is measured
//
//   - X is a moving mean over max(30 ms, the slowest call, at most 10·base), of calls that
//     ended well. Calls that failed or whose ctx ended do not count, so that an outage, in
//     which everything fails fast, is not taken for speed.
//   - A window of the measurement closes after 10 ms and 20 calls, or 100 ms; while there is a
//     limit, not before what began in it can have ended.
//   - base is a mean of up to 256 calls that both began and ended among few. When calls stay
//     slower than T although no more than L are in flight, either the downstream has become
//     slower or base is wrong: then at most half of L are let in until enough calls have told
//     (the idea is that of BBR's PROBE_RTT; Cardwell et al., "BBR: congestion-based congestion
//     control", 2016).
//   - When nothing has ended for long, the downstream hangs: no more than L are let in, and one
//     call at a time beyond them to see whether it is back. What was in flight meanwhile
//     teaches no latency.
//
// # How well it does
//
// TestOfferedLoad and TestChanges simulate 0.5 to 10 times the capacity of four downstreams
// with three budgets, and downstreams that lose capacity, slow down and hang, and state what
// is kept of the bound, for one seed each: others fall up to two points below what the tests ask,
// five after a change. The weakest are downstreams whose calls vary by a factor of a hundred:
// between 0.8 and 1.2 times their capacity up to a seventh of the work is refused for budgets of
// half of the longest call, because what is a queue and what is chance cannot be told apart in time.
package limit
