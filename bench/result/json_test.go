package result

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func sample() *Run {
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	return &Run{
		Version: Version, Command: []string{"all", `"Points":[]`}, Started: at, Ended: at.Add(time.Minute),
		Machine:  Machine{CPU: "a cpu", Cores: 2, MemoryBytes: 8 << 30, Kernel: "linux 6", Go: "go1.26", Disk: "ext4", FsyncP50: 0.001, FsyncP99: 0.01},
		Subjects: []Subject{{Name: "redis", Kind: "redis", Version: "7.0.15", Command: "redis-server --port {port}"}},
		Points: []Point{
			{Bench: Throughput, Subject: "redis", Params: map[string]string{"mix": "set"}, Round: 1, Metrics: map[string]float64{"req/s": 1.5},
				Latency: []Bucket{{Ms: 0.1, Count: 3}}, Series: map[string][]Sample{"p99-ms": {{T: 1, Value: 2}}}},
			{Bench: Restart, Subject: "redis", Params: map[string]string{"keys": "1"}, Round: 2, Metrics: map[string]float64{"took-s": 3}},
		},
		Notes: []string{"A note."},
	}
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	require.NoError(t, Write(path, sample()))
	got, err := Read(path)
	require.NoError(t, err)
	require.Equal(t, sample(), got)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, 4, strings.Count(string(b), "\n"), "a line for each point")

	empty := sample()
	empty.Points = nil
	require.NoError(t, Write(path, empty))
	got, err = Read(path)
	require.NoError(t, err)
	require.Empty(t, got.Points)
}

func TestWriteRefusesWhatIsNoNumber(t *testing.T) {
	dir := t.TempDir()
	run := sample()
	run.Points[1].Metrics["took-s"] = math.NaN()
	require.ErrorContains(t, Write(filepath.Join(dir, "results.json"), run), "point 2, restart of redis")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestReadSaysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		err  error
	}{
		"not JSON":       {"goos: linux\n", ErrFormat},
		"empty":          {"", ErrFormat},
		"no version":     {`{"Points":[]}`, ErrFormat},
		"cut":            {`{"Version":1,"Points":[`, ErrFormat},
		"newer":          {`{"Version":2}`, ErrNewer},
		"older":          {`{"Version":0}`, ErrOlder},
		"unknown field":  {`{"Version":1,"Wat":1}`, ErrFormat},
		"something more": {`{"Version":1} {}`, ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "r.json")
			require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
			_, err := Read(path)
			require.ErrorIs(t, err, c.err)
			require.ErrorContains(t, err, path)
		})
	}
	_, err := Read(filepath.Join(t.TempDir(), "none.json"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
