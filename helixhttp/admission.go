package helixhttp

import (
	"context"
	"log/slog"
	"time"

	"github.com/helixrouter/helix"
)

// Admission is how a request was admitted, for logs. It is a slog.LogValuer.
type Admission struct {
	Decision helix.Decision
	Age      time.Duration // from the arrival to the decision
	Wait     time.Duration // from then to the start of the handler
}

type admissionKey struct{}

// AdmissionFrom returns how the request with this ctx was admitted. It returns false outside of
// requests that a [Middleware] runs.
func AdmissionFrom(ctx context.Context) (Admission, bool) {
	a, ok := ctx.Value(admissionKey{}).(*Admission)
	if !ok {
		return Admission{}, false
	}
	return *a, true
}

// LogValue shows the strategy, the reason, age and wait.
func (a Admission) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("strategy", a.Decision.Strategy),
		slog.String("reason", a.Decision.Reason),
		slog.Duration("age", a.Age),
		slog.Duration("wait", a.Wait))
}
