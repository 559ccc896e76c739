// Package limit learns how many calls a downstream (a database, another service, a disk)
// can have in flight at a time. It knows neither tickets nor routers, takes the time as an
// argument and starts no goroutine, so that the same calls always give the same limit.
//
// # The idea
//
// By Little's law (J. D. C. Little, "A proof for the queuing formula L = λW", 1961) a
// downstream that ends X calls a second has X·T of them in flight when each takes T. So for
// calls to take a chosen time T, let
//
//	L = X·T
//
// be in flight. If the downstream could do more than X, then L calls take less than T, X
// rises, and L with it; if it can do less, they take longer, X falls, and L with it. There is
// nothing to tune, no gradient to estimate and no additive step: the limit follows the
// capacity as fast as X can be measured, in both directions.
//
// T is chosen between base, the latency of calls that find little else in flight, and the
// budget B. A longer queue keeps the downstream busy and refuses less; in a shorter one fewer calls are late. With one
// more place in the queue, about as much more is done as the downstream stands idle, and what is done in that place is
// late as often as a call that finds all others taken. So the queue is right when such a call is late as often as
// the downstream stands idle: near its capacity that is often, in an overload never. With idle the part of its capacity
// that stands idle, m and s the mean and the standard deviation of the latencies of those calls that find little
// else in flight and are within B, let
//
//	z = ln(1/max(idle, 0.003)) - 1
//	q = m + z·s, at most the longest of those latencies
//	T = base + min(0.8·(B − q)/(1 + g), longest)
//	T ≥ base·(1.15 + cv/√n), but at most the middle of base and B
//	T = base + longest    without a budget
//
// m + z·s is what an exponential distribution exceeds with the probability idle. g is by how much z standard
// deviations of the latency grow as its mean does: 0 if calls wait in a queue until they are served, all alike;
// q/m − 1 if all calls in flight are served at once, each more slowly (processor sharing); and in between, if
// few servers, or calls that vary much, make waiting vary. It is measured with calls that begin when a queue
// stands, or, if there is a limit, when that is nearly reached, and is taken to be q/m − 1 until then. The less
// the deviation grows with the mean, the nearer this z is to that of a normal distribution, as a queue is a sum
// of many calls. cv is the coefficient of variation of the latency, n the number of calls that base rests on.
//
// longest bounds the queue where budgets do not: 8·base or 20 ms (50 ms without a budget), a quarter of it while the
// downstream is never idle; but room for 64 calls, more if they vary by more than an exponential distribution, because
// so many come at once by chance however fast they are served.
//
// # When there is a limit
//
// A downstream that is not the bottleneck has none, however many calls are in flight. A limit
// is set when the mean latency exceeds 1.5·T (at least half of the budget, if that is within
// 3·T), or when the calls in flight divided by X do: this detects a standing queue long before
// calls have waited in it. The limit is removed when it was not needed for a second. While it is reached and calls take
// less than T it rises by at least one a window, so that a small limit finds out whether more can be done.
//
// # What is measured
//
//   - X is what a downstream can do, not what it is asked to: the rate from the ends of calls that leave X·base calls
//     or more in flight to the next ones; or all ends, while the limit is reached most of the time. It is a mean over
//     max(30 ms, the slowest call, at most 10·base), and over 100·cv² calls (at most 300 ms), so that its standard
//     deviation is a tenth, of calls that ended well. Calls that failed, or ended with their ctx, do not count, so that
//     an outage in which all calls fail fast is not taken for speed.
//   - idle is the part of X·base that the ends of calls leave free, over 300 ms and 100 calls.
//   - A window of the measurement closes after 10 ms and 20 calls, or 100 ms; while there is a
//     limit, not before what began in it can have ended. While there is none, a window looks at
//     128 calls, and only counts those that end well in the rest of its 10 ms.
//   - base is a mean of up to 256 calls that both began and ended among few. When calls stay
//     slower than T although no more than L are in flight, or stay as slow when fewer are, either the
//     downstream has become slower or base is wrong; when many more end than before, of what hardly
//     fits the budget, it may have become faster. Then at most X·base are admitted until enough
//     calls have been measured (the idea is that of BBR's PROBE_RTT; Cardwell et al., "BBR:
//     congestion-based congestion control", 2016).
//   - Eight calls in flight are few, unless fewer prove to be faster: if X·base is below twelve, and calls that find
//     nothing else in flight are faster by a quarter, only these count. If there are none, or if base exceeds half of the
//     budget, base is learned anew with half as many, until that changes it by less than a quarter.
//   - The latencies of the same calls are kept in a fading histogram (spread).
//   - When nothing has ended for long (2T, or 1.5 times the slowest call of some 300 ms), the
//     downstream counts as hung: at most L calls are admitted, and one at a time beyond them as a
//     probe. Calls in flight meanwhile count neither in the latency nor in X. Before the first end of a call
//     it counts as hung after the budget of the first call (at least 100 ms), with an L of 8;
//     without a budget after 100 ms, with an L of 16384. That L stays until calls have begun and ended.
//   - If two probes end well, one after the other, and none of the calls that were in flight before, those are lost
//     and do not count any more. If all calls that a limit lets in never end, it is open again after two probes.
//
// # How well it does
//
// TestOfferedLoad and TestChanges simulate 0.5 to 10 times the capacity of four downstreams
// with three budgets, and downstreams that lose capacity, slow down and hang. TestAgainstTheBestConstantLimit has other
// numbers of servers. The means of 12 seeds with which nothing was tuned (-first 900 -seeds 12), in % of the bound:
//
//   - at least 97 at all loads, but 96.4 at 1 times the capacity where calls vary by a factor of a hundred
//     (nine of ten take 1 ms, one 100 ms) and have budgets of 50 ms. No constant limit keeps more than 97.1
//     there: when a queue stands so briefly, chance and overload look alike.
//   - 99.3 over the changes, at least 97.0 over each of them, and at most 0.2 s until it is as before. Single runs
//     fall to 84.
//   - refused below the capacity: nothing up to 0.8 times (0.1 % where calls vary by a hundred). At 0.95 times,
//     with budgets of 50 ms, nothing where they vary as an exponential distribution does, or all are served at once,
//     but in one run of 100, or one of 15, in which so many came by chance that a second of them did not fit; and
//     2.8 % where they vary by a hundred (the constant limit that keeps most refuses 1.4 %).
//   - late of those admitted, in an overload: at most 1 %. At 1 times the capacity 1.1 to 1.4 % of calls with budgets
//     of ten times their length in a downstream that works at all of them at once.
//   - 1 to 16 servers, 0.5 to 10 times the capacity, budgets of 10 and 100 times a call: 0.7 points less than the
//     constant limit that is best for each case. One server is the weak spot: with budgets of ten times a
//     call two to four points less, and up to nine at 10 times the capacity if it works at all calls at once.
package limit
