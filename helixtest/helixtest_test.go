package helixtest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixtest"
	"github.com/stretchr/testify/require"
)

// recorder is a TB that keeps what a test would have said.
type recorder struct {
	cleanup []func()
	said    []string
}

func (*recorder) Helper()            {}
func (r *recorder) Cleanup(f func()) { r.cleanup = append(r.cleanup, f) }
func (r *recorder) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}
func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...) }

func (r *recorder) end() string {
	for i := len(r.cleanup) - 1; i >= 0; i-- {
		r.cleanup[i]()
	}
	return strings.Join(r.said, "\n")
}

func nothing(context.Context) (any, error) { return nil, nil }

func TestForcedLanes(t *testing.T) {
	r := helixtest.New(t, helix.RouterConfig{})
	for _, lane := range []string{helix.Inline, helix.Spawn, helix.CPUPool} {
		r.Force("", lane)
		r.Force("own", helix.Inline)
		res, err := r.Submit(t.Context(), helix.Job{Kind: "any", Cost: 1e12, Run: nothing})
		require.NoError(t, err)
		require.Equal(t, lane, res.Decision.Strategy)
		require.Equal(t, helixtest.Reason, res.Decision.Reason)
		res, err = r.Submit(t.Context(), helix.Job{Kind: "own", Run: nothing})
		require.NoError(t, err)
		require.Equal(t, helix.Inline, res.Decision.Strategy, "a kind of its own comes first")
	}
	sum, err := helix.Register(r.Router, helix.Kind[int, int]{Name: "sum", Batch: func(_ context.Context, in []int) ([]int, error) { return in, nil }})
	require.NoError(t, err)
	r.Force("sum", helix.Batch)
	out, err := sum.Submit(t.Context(), 7)
	require.NoError(t, err)
	require.Equal(t, 7, out)
	for _, s := range r.Stats().RoutedByStrategy {
		if s.Strategy == helix.Batch {
			require.EqualValues(t, 1, s.Count)
		}
	}

	r.Free("")
	res, err := r.Submit(t.Context(), helix.Job{Kind: "any", Run: nothing})
	require.NoError(t, err)
	require.NotEqual(t, helixtest.Reason, res.Decision.Reason, "it decides for itself again")
}

func TestForcedRefusals(t *testing.T) {
	r := helixtest.New(t, helix.RouterConfig{})
	r.Refuse("a", "the test says so", 3*time.Second)
	_, err := r.Submit(t.Context(), helix.Job{Kind: "a", Run: nothing})
	var drop *helix.DropError
	require.True(t, errors.As(err, &drop))
	require.Equal(t, "the test says so", drop.Decision.Reason)
	require.GreaterOrEqual(t, drop.RetryAfter, 3*time.Second)
	_, err = r.Submit(t.Context(), helix.Job{Kind: "b", Run: nothing})
	require.NoError(t, err)

	r.Refuse("", "nobody", 0)
	_, err = r.Submit(t.Context(), helix.Job{Kind: "b", Run: nothing})
	require.True(t, errors.As(err, &drop))
	require.Zero(t, drop.RetryAfter)
}

func TestTimeIsVirtualInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := helixtest.New(t, helix.RouterConfig{CPUParallelism: 2})
		r.Force("", helix.CPUPool)
		release := r.Occupy(2)
		go func() {
			time.Sleep(time.Hour)
			release()
			release() // once more does nothing
		}()
		res, err := r.Submit(t.Context(), helix.Job{Run: func(context.Context) (any, error) {
			time.Sleep(time.Minute)
			return "done", nil
		}})
		require.NoError(t, err)
		require.Equal(t, "done", res.Value)
		require.Equal(t, time.Hour, res.Wait)
		require.Equal(t, time.Minute, res.Run)
	})
}

func TestReleasedSlotsAreFree(t *testing.T) {
	r := helixtest.New(t, helix.RouterConfig{CPUParallelism: 2})
	for range 200 {
		r.Occupy(2)()
		require.Zero(t, r.Stats().Pressure.CPUBusy)
	}
}

func TestMistakesFailTheTest(t *testing.T) {
	for want, do := range map[string]func(*helixtest.Router){
		`no strategy "inlin"`: func(r *helixtest.Router) { r.Force("", "inlin") },
		"use Refuse":          func(r *helixtest.Router) { r.Force("", helix.Drop) },
		"1 slots are free":    func(r *helixtest.Router) { r.Occupy(2) },
		"":                    func(r *helixtest.Router) { r.Occupy(1) }, // and never released
	} {
		var tb recorder
		do(helixtest.New(&tb, helix.RouterConfig{}))
		said := tb.end()
		if want == "" {
			require.Empty(t, said)
		}
		require.Contains(t, said, want)
	}
	var tb recorder
	require.Nil(t, helixtest.New(&tb, helix.RouterConfig{CPUQueueCap: -1}))
	require.Contains(t, tb.end(), "RouterConfig.CPUQueueCap is -1")
}
