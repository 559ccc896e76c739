package estimate

import "math"

// sketch is a fading histogram of positive numbers on a logarithmic scale, whose
// buckets follow the data (Ben-Haim and Tom-Tov, "A Streaming Parallel Decision Tree
// Algorithm", JMLR 2010): a number unlike all before gets a bucket of its own, and once there are too many buckets
// the two closest are merged. So it is exact for repeated numbers, and accepts numbers of
// any size.
//
// Three rules distinguish rare numbers from absurd and outdated ones:
//   - Numbers outside the range of the last lively numbers do not count. So one in ten
//     that is 10,000 times the others has its full weight in the mean, and a sequence of
//     absurd numbers leaves no trace soon after its end.
//   - While there are fewer than seldom of the largest numbers, they count as at most
//     oneOffMost times the next: runs are sometimes interrupted.
//   - If the latest numbers rank too high or too low among all, the distribution has
//     changed, and earlier numbers count for little from then on.
//
// Its zero value is empty. It is not safe for concurrent use.
type sketch struct {
	buckets [sketchSize]bucket // in ascending order, as many as are used
	used    int
	count   uint32  // of numbers; wraps around
	weight  float32 // of the latest number; it grows, instead of all others shrinking
	total   float32 // weight of all buckets
	drift   float32 // moving mean of the latest numbers' rank, from -1/2 to 1/2
}

// bucket is a set of numbers that are close to one another.
type bucket struct {
	mean   float64
	weight float32
	seen   uint32 // sketch.count at the latest of them
	hits   uint8  // how many there were since lively others came between; stays at 255
	odd    bool   // as the latest of them was: see add
}

const (
	sketchSize = 16
	// memory is the number of samples that the weights of buckets fade over. Rare large
	// numbers need many: with one in ten far above the others, chance then moves the mean
	// by at most a tenth or so.
	memory = 512
	// bucketMemory is how many the mean of a bucket rests on, to follow small changes.
	bucketMemory = 16
	// lively is the number of samples after which an untouched part of the range no longer
	// counts. Numbers that occur once in ten are missed one time in 10,000.
	lively = 88
	// driftMost is the distance of the mean rank of some driftMemory numbers from the middle
	// that shows a change; the numbers before then count as driftKeeps. It is almost five
	// standard deviations of chance. Numbers that differ by less than similar are equal.
	driftMemory = 24
	driftMost   = 0.2
	driftKeeps  = 4
	similar     = 0.1
	// While there are fewer than seldom of the largest numbers, they are bounded to oneOffMost
	// times the next.
	seldom     = 3
	oneOffMost = 4
	// lowPart, likelyPart and highPart are the fractions of all numbers that are within
	// summary.low, likely and high.
	lowPart, likelyPart, highPart = 0.1, 0.8, 0.9
	// leastNumber and mostNumber replace numbers beyond them, so that no sum overflows.
	leastNumber, mostNumber = 1e-200, 1e200
)

// octave is the distance between the bits of a positive float and those of its double. In
// between, the bits are ordered like the floats, on a nearly logarithmic scale.
const octave = 1 << 52

var leastBits, mostBits = int64(math.Float64bits(leastNumber)), int64(math.Float64bits(mostNumber))

// sameWithin is how far apart numbers are that share a bucket, three to five per cent, as
// long as there is room for another; then it is coarseWithin.
const (
	sameWithin   = octave / 20
	coarseWithin = octave / 8
)

// apart returns the distance of two positive floats; octave is a factor of two.
func apart(a, b float64) int64 {
	d := int64(math.Float64bits(a)) - int64(math.Float64bits(b))
	return max(d, -d)
}

// shift returns the positive float at that distance from v, within bounds.
func shift(v float64, by int64) float64 {
	bits := int64(math.Float64bits(v))
	return math.Float64frombits(uint64(bits + min(max(by, leastBits-bits), mostBits-bits)))
}

// add records a number. An odd one does not count in the summary's moments.
func (s *sketch) add(v float64, odd bool) {
	v = min(max(v, leastNumber), mostNumber)
	if s.count++; s.used == 0 {
		s.weight = 1
		s.insert(0, v, odd)
		return
	}
	if s.weight *= 1 + 1./memory; s.weight > 1<<30 {
		s.scale(1 / s.weight)
		s.weight = 1
	}
	// at is the first bucket that is not below v. Buckets that hardly differ from v count half
	// in its rank: the means of buckets follow small changes.
	at, rank := 0, float32(0)
	for ; at < s.used && s.buckets[at].mean < v; at++ {
		b := &s.buckets[at]
		if rank += b.weight; b.mean > v*(1-similar) {
			rank -= b.weight / 2
		}
	}
	for i := at; i < s.used && s.buckets[i].mean < v*(1+similar); i++ {
		rank += s.buckets[i].weight / 2
	}
	rank = rank/s.total - .5
	near, distance := at, int64(math.MaxInt64)
	if at < s.used {
		distance = apart(s.buckets[at].mean, v)
	}
	if at > 0 {
		if d := apart(s.buckets[at-1].mean, v); d < distance {
			near, distance = at-1, d
		}
	}
	if distance > sameWithin && s.makeRoom(distance, &at) {
		s.insert(at, v, odd)
	} else {
		b := &s.buckets[near]
		b.weight += s.weight
		s.total += s.weight
		b.mean += max(float64(s.weight/b.weight), 1./bucketMemory) * (v - b.mean)
		if !s.live(b) {
			b.hits = 0
		}
		b.seen, b.odd = s.count, odd
		b.hits += min(1, math.MaxUint8-b.hits)
	}
	s.drift += (rank - s.drift) / driftMemory
	if max(s.drift, -s.drift) > driftMost {
		s.keep(driftKeeps)
		s.drift = 0
	}
}

// insert makes a bucket for v at that place. There must be room.
func (s *sketch) insert(at int, v float64, odd bool) {
	copy(s.buckets[at+1:s.used+1], s.buckets[at:s.used])
	s.buckets[at] = bucket{v, s.weight, s.count, 1, odd}
	s.used++
	s.total += s.weight
}

// makeRoom frees a bucket and adjusts *at, the place of the next insertion. If all buckets are
// farther apart than distance it does nothing and returns false.
func (s *sketch) makeRoom(distance int64, at *int) bool {
	if s.used < sketchSize {
		return true
	}
	if distance <= coarseWithin {
		return false
	}
	// Buckets outside the range of the latest numbers do not count: they are removed first.
	if last := s.used - 1; !s.live(&s.buckets[0]) || !s.live(&s.buckets[last]) {
		end := 0
		if s.live(&s.buckets[0]) {
			end = last
		}
		s.total -= s.buckets[end].weight
		copy(s.buckets[end:], s.buckets[end+1:])
		if s.used--; end < *at {
			*at--
		}
		return true
	}
	// The last bucket has no next one to merge with, but may be removed.
	closest, gap := -1, distance
	for i := range s.buckets {
		b := &s.buckets[i]
		if b.weight < s.weight/4 && !s.live(b) {
			s.total -= b.weight
			b.weight = 0
			closest = i
			break
		}
		if i+1 < sketchSize {
			if d := apart(s.buckets[i+1].mean, b.mean); d < gap {
				closest, gap = i, d
			}
		}
	}
	if closest < 0 {
		return false
	}
	if b := s.buckets[closest]; b.weight > 0 {
		into := &s.buckets[closest+1]
		into.mean += float64(b.weight/(b.weight+into.weight)) * (b.mean - into.mean)
		into.weight += b.weight
		if s.count-b.seen < s.count-into.seen {
			into.seen, into.odd = b.seen, b.odd
		}
		into.hits += min(b.hits, math.MaxUint8-into.hits)
	}
	copy(s.buckets[closest:], s.buckets[closest+1:])
	s.used--
	if closest < *at {
		*at--
	}
	return true
}

// live reports whether one of the latest numbers is in b.
func (s *sketch) live(b *bucket) bool { return s.count-b.seen < lively }

// keep caps the weight of all numbers so far at that many.
func (s *sketch) keep(numbers float32) {
	if most := numbers * s.weight; s.total > most {
		s.scale(most / s.total)
	}
}

func (s *sketch) scale(by float32) {
	s.total = 0
	for i := range s.buckets[:s.used] {
		s.buckets[i].weight *= by
		s.total += s.buckets[i].weight
	}
}

// stretch multiplies all numbers so far.
func (s *sketch) stretch(by float64) {
	for i := range s.buckets[:s.used] {
		b := &s.buckets[i]
		b.mean = min(max(b.mean*by, leastNumber), mostNumber)
	}
}

// quantile returns the number that this fraction of the counting numbers is within; 0 for an
// empty sketch.
func (s *sketch) quantile(part float32) float64 {
	first, last := s.counting()
	all, seen := float32(0), float32(0)
	for i := first; i <= last; i++ {
		all += s.buckets[i].weight
	}
	for i := first; i <= last; i++ {
		if seen += s.buckets[i].weight; seen >= part*all {
			return s.buckets[i].mean
		}
	}
	return 0
}

// meanWithin returns the mean of the counting numbers within those bounds. The sketch must
// not be empty.
func (s *sketch) meanWithin(least, most float64) float64 {
	first, last := s.counting()
	sum, weight := 0., 0.
	for _, b := range s.buckets[first : last+1] {
		if b.mean >= least && b.mean <= most {
			sum += b.mean * float64(b.weight)
			weight += float64(b.weight)
		}
	}
	return sum / weight
}

// counting returns the first and the last bucket that count.
func (s *sketch) counting() (first, last int) {
	first, last = 0, s.used-1
	for first <= last && !s.live(&s.buckets[first]) {
		first++
	}
	for first <= last && !s.live(&s.buckets[last]) {
		last--
	}
	return first, last
}

// summary has the figures of a sketch.
type summary struct {
	mean   float64
	spread float64 // mean deviation, as a part of mean
	low    float64 // what lowPart of the numbers are within
	likely float64 // what likelyPart of them are within
	high   float64 // what highPart of them are within, or mean if that is more
	median float64 // odd ones included
	least  float64
	most   float64
	odd    float64 // the part of all that is odd
}

// bound returns the value to which the numbers in those buckets are capped.
func (s *sketch) bound(of []bucket) float64 {
	least, hits := 0., 0
	for i := len(of) - 1; i >= 0; i-- {
		if of[i].odd {
			continue
		}
		if s.live(&of[i]) {
			hits += int(of[i].hits)
		}
		if hits >= seldom {
			if least == 0 {
				return math.Inf(1)
			}
			return oneOffMost * of[i].mean
		}
		least = of[i].mean
	}
	return oneOffMost * least
}

// summary returns the figures of the counting numbers, without the odd ones. It is zero for an
// empty sketch.
func (s *sketch) summary() (sum summary) {
	first, last := s.counting()
	live := s.buckets[first : last+1]
	most := s.bound(live)
	plain, odd, value := 0., 0., 0.
	for i := range live {
		b := &live[i]
		if b.odd {
			odd += float64(b.weight)
			continue
		}
		v := min(b.mean, most)
		if value = v; plain == 0 {
			sum.least = v
		}
		plain += float64(b.weight)
		sum.mean += float64(b.weight) * v
	}
	if plain == 0 {
		return summary{odd: min(odd, 1)}
	}
	sum.most = value
	sum.mean /= plain
	sum.odd = odd / (plain + odd)
	all, seen := 0., 0.
	for i := range live {
		b := &live[i]
		w := float64(b.weight)
		if all += w; sum.median == 0 && all >= (plain+odd)/2 {
			sum.median = b.mean
		}
		if b.odd {
			continue
		}
		v := min(b.mean, sum.most)
		sum.spread += w * math.Abs(v-sum.mean)
		seen += w
		if sum.low == 0 && seen >= lowPart*plain {
			sum.low = v
		}
		if sum.likely == 0 && seen >= likelyPart*plain {
			sum.likely = v
		}
		if sum.high == 0 && seen >= highPart*plain {
			sum.high = v
		}
	}
	sum.spread /= plain * sum.mean
	sum.high = max(sum.high, sum.mean)
	return sum
}
