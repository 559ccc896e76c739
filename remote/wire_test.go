package remote

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

func TestFramesCarryEveryField(t *testing.T) {
	load := Load{Slots: 8, Busy: 7, Queued: 300, Wait: 12 * time.Millisecond, Run: 3 * time.Microsecond, Cost: 2.5, Refuses: true, Leaves: true}
	request := Request{Attempt: math.MaxUint64, Kind: "resize", Cost: 1e9, Budget: 50 * time.Millisecond, Priority: helix.High,
		Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Input: []byte(`{"w":3}`)}

	got, probe, err := ParseRequest(request.AppendJob(nil))
	require.NoError(t, err)
	require.False(t, probe)
	require.Equal(t, request, got)

	got, probe, err = ParseRequest(request.AppendProbe(nil))
	require.NoError(t, err)
	require.True(t, probe)
	require.Nil(t, got.Input, "a probe has no input")

	reply := Reply{Status: StatusPanicked, Reason: "none", RetryAfter: time.Second, Wait: time.Millisecond, Run: time.Minute,
		Load: load, Body: []byte("boom"), Stack: []byte("goroutine 1")}
	gotReply, err := ParseReply(reply.Append(nil))
	require.NoError(t, err)
	require.Equal(t, reply, gotReply)

	presence := Presence{Worker: "w1", Kind: "resize", Load: load}
	gotPresence, err := ParsePresence(presence.Append(nil))
	require.NoError(t, err)
	require.Equal(t, presence, gotPresence)

	attempt, err := ParseCancel(AppendCancel(nil, 77))
	require.NoError(t, err)
	require.EqualValues(t, 77, attempt)
}

func TestBadFramesAreNamed(t *testing.T) {
	job := (&Request{Kind: "k"}).AppendJob(nil)
	for name, frame := range map[string][]byte{
		"shorter than its header":   {Version},
		"version 9, want 1":         {9, byte(frameJob)},
		"neither a job nor a probe": {Version, byte(frameReply)},
		"attempt":                   {Version, byte(frameJob)},
		"malformed frame: kind":     {Version, byte(frameJob), 0, 200, 1},
		"malformed frame: cost":     append([]byte{Version, byte(frameJob), 0, 0}, bytes.Repeat([]byte{0xff}, 8)...), // NaN
		"malformed frame: trace":    job[:len(job)-1],
		"malformed frame: priority": append(job[:len(job)-2:len(job)-2], 3),
		"malformed frame: budget":   append([]byte{Version, byte(frameJob), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte{0xff}, 9)...),
	} {
		_, _, err := ParseRequest(frame)
		require.ErrorIs(t, err, errFrame, name)
		require.ErrorContains(t, err, name)
	}
}

func TestLongTextsAreCut(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	r := Reply{Status: StatusFailed, Reason: long, Body: []byte(long), Stack: []byte(long)}
	got, err := ParseReply(r.Append(nil))
	require.NoError(t, err)
	require.Len(t, got.Reason, maxName)
	require.Len(t, got.Body, maxText)
	require.Len(t, got.Stack, maxStack)

	r = Reply{Status: StatusDone, Body: []byte(long)}
	got, err = ParseReply(r.Append(nil))
	require.NoError(t, err)
	require.Len(t, got.Body, len(long), "an output is never cut")
}

// FuzzFrames feeds bytes to every parser: none may panic, what is read must be within
// its bounds, and written again it must be read as the same.
func FuzzFrames(f *testing.F) {
	f.Add((&Request{Attempt: 1, Kind: "k", Cost: 2, Budget: time.Second, Trace: "t", Input: []byte("in")}).AppendJob(nil))
	f.Add((&Request{Attempt: 1, Kind: "k"}).AppendProbe(nil))
	f.Add((&Reply{Status: StatusDone, Body: []byte("out"), Load: Load{Slots: 2}}).Append(nil))
	f.Add((&Presence{Worker: "w", Kind: "k"}).Append(nil))
	f.Add(AppendCancel(nil, 9))
	f.Fuzz(func(t *testing.T, frame []byte) {
		sound := func(l Load) {
			require.True(t, l.Slots >= 0 && l.Slots <= maxSlots && l.Wait >= 0 && l.Run >= 0 && l.Cost >= 0, "%+v", l)
		}
		if r, probe, err := ParseRequest(frame); err == nil {
			require.GreaterOrEqual(t, r.Budget, time.Duration(0))
			require.False(t, math.IsNaN(r.Cost))
			again := r.AppendJob(nil)
			if probe {
				again = r.AppendProbe(nil)
			}
			same, _, err := ParseRequest(again)
			require.NoError(t, err)
			require.Equal(t, r, same)
		}
		if r, err := ParseReply(frame); err == nil {
			sound(r.Load)
			same, err := ParseReply(r.Append(nil))
			require.NoError(t, err)
			require.Equal(t, r, same)
		}
		if p, err := ParsePresence(frame); err == nil {
			sound(p.Load)
			same, err := ParsePresence(p.Append(nil))
			require.NoError(t, err)
			require.Equal(t, p, same)
		}
		if a, err := ParseCancel(frame); err == nil {
			same, err := ParseCancel(AppendCancel(nil, a))
			require.NoError(t, err)
			require.Equal(t, a, same)
		}
	})
}

// The time of a job may be up by the time its request is made: then it has hardly any left, and
// not as much as it likes.
func TestARequestHasWhatIsLeftOfTheBudget(t *testing.T) {
	now := time.Unix(1000, 0)
	for left, budget := range map[time.Duration]time.Duration{
		time.Second: time.Second, 1: 1, 0: 1, -1: 1, -time.Hour: 1,
	} {
		j := Job{Deadline: now.Add(left)}
		require.Equal(t, budget, j.request(1, now).Budget, "%v", left)
	}
	require.Zero(t, (&Job{}).request(1, now).Budget)
}
