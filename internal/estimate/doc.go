// Package estimate learns how long work takes: runs of jobs ([Runs]), calls of batch
// functions ([Calls]) and waits in a queue ([QueueWait]). It knows neither jobs nor
// routers, takes the time as an argument and starts no goroutine, so the same samples always
// give the same estimates.
//
// # What an estimate must be good for
//
// Shares of the machine need an unbiased mean m of a kind's run times: if one run in ten
// takes 10,000 times as long as the others, m is a thousand times the usual run. Promises
// need quantiles: whether a job can finish within the rest of its budget depends on the run
// time that one, eight or nine in ten jobs stay within ([Estimate]). A pair of moving means
// gives neither.
//
// # How
//
// [Runs] keeps two fading histograms (sketch), of the run times and of the run times per
// unit of cost, and predicts with the one that has the smaller mean deviation relative to its
// mean. Weights fade over 512 samples: if one sample in ten is far above the rest, the
// standard error of the mean is then about 0.13 of it. With a gain that follows a change
// within 20 samples the mean would depend on chance. Changes are detected instead: when the
// latest 24 samples rank too high or too low among all, older ones count for little, and a
// part of the range that 88 samples in a row did not touch does not count at all.
//
// [Calls] separates a call's fixed part from the part that grows with its items:
//
//	T = base + slope × units
//
// by a line through the middles of the latest 48 calls (Tukey's resistant line), and gets the
// level from a sketch of the times, each divided by the line's value for a usual job.
//
// [QueueWait] is a ratio of two moving means: the wait of a kind's jobs, over the work
// before them on arrival. With earliest deadline first, jobs with short budgets wait for a
// small fraction of that work, and those with long budgets also for later arrivals.
//
// The sketch is that of Ben-Haim and Tom-Tov, "A Streaming Parallel Decision Tree
// Algorithm", JMLR 2010, on a logarithmic scale. Decision 8 in docs/decisions has the
// alternatives that were tried.
package estimate
