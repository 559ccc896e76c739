package slots

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUnderWay(t *testing.T) {
	var u UnderWay
	var a, b Stopwatch
	u.Begin(&a, 100)
	require.EqualValues(t, 50, u.Time(150))
	u.Begin(&b, 150)
	require.EqualValues(t, 150, u.Time(200))
	u.Pause(&a, 200)
	require.EqualValues(t, 100+150, u.Time(300))
	u.Lose(&a, 5) // it holds no slot
	u.Lose(&b, 50)
	require.EqualValues(t, 100+100, u.Time(300))
	u.Resume(&a, 400)
	u.Resume(&a, 450)
	require.EqualValues(t, 200+300, u.Time(500))
	u.Pause(&b, 500)
	u.End(&a)
	u.End(&a)
	require.EqualValues(t, 300, u.Time(900))
	u.End(&b) // while a goroutine that it left behind waits for a slot
	require.Zero(t, u.Time(1000))
	u.Resume(&b, 1000)
	u.Pause(&b, 1000)
	require.Zero(t, u.Time(1000))
}
