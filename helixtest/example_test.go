package helixtest_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixtest"
)

// What follows up to the tests is a user's handler: it renders a report within 100 ms, or
// falls back to yesterday's.

type reports struct {
	router *helix.Router
	render func(context.Context) (any, error)
}

func (s *reports) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	result, err := s.router.Submit(r.Context(), helix.Job{Kind: "report", Budget: 100 * time.Millisecond, Run: s.render})
	switch {
	case errors.Is(err, helix.ErrNotRun):
		w.Header().Set("Warning", `110 - "Response is Stale"`)
		_, _ = w.Write([]byte("yesterday's report"))
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		_, _ = w.Write([]byte(result.Value.(string)))
	}
}

func TestAUsersHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time is virtual
		router := helixtest.New(t, helix.RouterConfig{})
		h := &reports{router: router.Router, render: func(context.Context) (any, error) {
			time.Sleep(30 * time.Millisecond) // what rendering takes
			return "today's report", nil
		}}
		get := func() (string, time.Duration) {
			start, w := time.Now(), httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/report", nil))
			return w.Body.String(), time.Since(start)
		}

		if body, took := get(); body != "today's report" || took != 30*time.Millisecond {
			t.Errorf("got %q after %v", body, took)
		}

		router.Refuse("report", "over its fair share", time.Second)
		if body, took := get(); body != "yesterday's report" || took != 0 {
			t.Errorf("refused: got %q after %v", body, took)
		}
		router.Free("report")

		router.Force("report", helix.CPUPool)
		release := router.Occupy(1) // the machine is busy, for longer than anybody waits
		if body, took := get(); body != "yesterday's report" || took != 100*time.Millisecond {
			t.Errorf("no slot in time: got %q after %v", body, took)
		}
		release()
	})
}
