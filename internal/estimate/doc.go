// Package estimate learns how long work takes: runs of jobs ([Runs]), calls of batch
// functions ([Calls]) and waits in a queue ([QueueWait]). It knows neither jobs nor
// routers, is given the time and starts nothing, so that the same samples always give the
// same estimates.
//
// # What an estimate must be good for
//
// Shares of the machine need the mean m of a kind's run times, an unbiased one: that of a
// kind of which one run in ten takes 10,000 times as long as the others is a thousand times
// what most take. Promises need quantiles: the decision whether a job can end in what is
// left of its budget asks for the run time that one, eight or nine in ten jobs keep within
// ([Estimate]). A pair of moving means gives neither.
//
// # How
//
// [Runs] keeps two fading histograms (sketch), of the run times and of the run times per
// unit of cost, and predicts with the one whose mean deviation, as a part of the mean, is
// less. Weights fade over 512 samples: the standard error of a mean of which one in ten is
// far above the rest is then about 0.13 of it, and with a gain that follows a change within
// 20 it would be a matter of chance. Changes are noticed instead: when the latest 24
// samples rank too high or too low among all, what was before counts for little, and the
// part of the range that 88 samples in a row did not touch does not count at all.
//
// [Calls] tells a call's fixed part from the part that grows with its items:
//
//	T = base + slope × units
//
// by a line through the middles of the latest 48 calls (Tukey's resistant line), and how
// long it all takes by a sketch of the times, each divided by what the line makes of a usual
// job.
//
// [QueueWait] is a ratio of two moving means: how long jobs of a kind wait, over the work
// that was before them when they came. With earliest deadline first, short budgets wait for
// little of it, and long ones also for what comes later.
//
// The sketch is that of Ben-Haim and Tom-Tov, "A Streaming Parallel Decision Tree
// Algorithm", JMLR 2010, on a logarithmic scale. Decision 8 in docs/decisions has the
// alternatives that were tried.
package estimate
