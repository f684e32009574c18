package bench

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/bench/report"
	"github.com/holdfast-db/holdfast/bench/result"
)

// runPoints runs a benchmark in a size that takes seconds, and returns its points.
func runPoints(t *testing.T, args ...string) *result.Run {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	dir := t.TempDir()
	var stderr bytes.Buffer
	status := Main(append(args, "-o", "", "-out", dir), t.Output(), &stderr)
	require.Zero(t, status, "%s", stderr.String())
	run, err := result.Read(filepath.Join(dir, report.ResultsFile))
	require.NoError(t, err)
	require.False(t, run.Ended.IsZero())
	require.Positive(t, run.Machine.FsyncP50)
	return run
}

func TestCowOfRedis(t *testing.T) {
	run := runPoints(t, "cow", "-servers", "redis", "-rates", "1000,max", "-rate", "1000", "-dists", "zipf", "-values", "200", "-sizes", "4k", "-keys", "3000", "-t", "100ms", "-rounds", "1", "-c", "2")
	require.Len(t, run.Points, 5, "two rates, and one more of each other list")
	for _, p := range run.Points {
		require.Equal(t, result.Cow, p.Bench)
		require.Positive(t, p.Metrics["copied-B"], "what Redis said that it had copied")
		require.Positive(t, p.Metrics["fork-ms"])
		require.Greater(t, p.Metrics["disk-B"], 3000.0*100, "the whole of the data")
		require.Positive(t, p.Metrics["took-s"])
	}
	require.Equal(t, "max", run.Points[1].Params["rate"])
}

func TestRestartOfRedis(t *testing.T) {
	run := runPoints(t, "restart", "-servers", "redis", "-keys", "1000,2000", "-rounds", "2", "-load", "50ms")
	require.Len(t, run.Points, 8, "two sizes, two rounds, two ways to end")
	for _, p := range run.Points {
		require.Positive(t, p.Metrics["took-s"])
	}
}

// Every benchmark tells its flags; two of one name would end the program.
func TestFlagsOfAll(t *testing.T) {
	for _, b := range benchmarks() {
		var stderr bytes.Buffer
		require.Equal(t, 2, Main([]string{b.name, "-h"}, t.Output(), &stderr), b.name)
		require.Equal(t, !b.tool, strings.Contains(stderr.String(), "-servers") || strings.Contains(stderr.String(), "-pairs"), b.name)
	}
}

// Where a choice of the caller's is wrong, nothing is started.
func TestFlagsOfPoints(t *testing.T) {
	for _, args := range [][]string{
		{"throughput", "-mixes", "nothing"}, {"throughput", "-p", "0"}, {"throughput", "-policy", "sometimes"}, {"throughput", "-loop", "round"}, {"throughput", "-dist", "normal"},
		{"cow", "-rates", "-1"}, {"cow", "-dists", "normal"}, {"cow", "-sizes", "many"}, {"outage", "-choices", "none"}, {"outage", "-overwrite", "101"},
		{"all", "-only", "everything"}, {"restart", "-keys", "0"}, {"sync", "-loads", "some"}, {"throughput", "-rounds", "0"}, {"cow", "-rounds", "-1"},
	} {
		var stderr bytes.Buffer
		require.NotZero(t, Main(args, t.Output(), &stderr), "%v", args)
		require.NotEmpty(t, stderr.String())
	}
}
