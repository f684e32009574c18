package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPressure(t *testing.T) {
	var p pressure
	at := func(s int) time.Time { return time.Unix(int64(1000+s), 0) }
	for _, step := range []struct {
		at             int
		over           bool
		total, current time.Duration
	}{
		{0, false, 0, 0},
		{1, true, 0, 0},
		{3, true, 2 * time.Second, 2 * time.Second},
		{4, false, 3 * time.Second, 0},
		{9, false, 3 * time.Second, 0},
		{10, true, 3 * time.Second, 0},
		{11, true, 4 * time.Second, time.Second},
	} {
		p.look(step.over, at(step.at))
		total, current := p.over(at(step.at))
		require.Equal(t, step.total, total, "%+v", step)
		require.Equal(t, step.current, current, "%+v", step)
	}
	p.passed(100, 20, true, time.Millisecond)
	p.passed(0, 0, false, time.Millisecond)
	require.InDelta(t, 0.95, p.expiry.StalePercent, 1e-9)
	require.Equal(t, int64(1), p.expiry.Capped)
	require.Equal(t, 2*time.Millisecond, p.expiry.Time)
	p.reset(at(20))
	total, current := p.over(at(21))
	require.Equal(t, time.Second, total)
	require.Equal(t, time.Second, current)
	require.Zero(t, p.expiry)
}
