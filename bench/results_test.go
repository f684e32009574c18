package bench

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/bench/report"
	"github.com/holdfast-db/holdfast/bench/result"
)

func oneRun() *result.Run {
	return &result.Run{Version: result.Version, Started: time.Unix(0, 0).UTC(), Points: []result.Point{
		{Bench: result.Restart, Subject: "redis", Params: map[string]string{"keys": "10", "how": "kill9"}, Round: 1, Metrics: map[string]float64{"took-s": 1}}}}
}

func TestReportIsRenderedAgain(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "r.json")
	require.NoError(t, result.Write(file, oneRun()))
	for name, c := range map[string]struct {
		args   []string
		status int
		says   string
	}{
		"flags in front":  {[]string{"-out", "OUT", "-compare", file, file}, 0, ""},
		"flags behind":    {[]string{file, "-compare", file, "-out", "OUT"}, 0, ""},
		"on both sides":   {[]string{"-out", "OUT", file, "-compare", file}, 0, ""},
		"nothing":         {nil, 2, "usage"},
		"no directory":    {[]string{file}, 2, "usage"},
		"no file":         {[]string{"-out", "OUT"}, 2, "usage"},
		"two files":       {[]string{"-out", "OUT", file, file}, 2, "usage"},
		"unknown flag":    {[]string{"-wat", file}, 2, "not defined"},
		"file is missing": {[]string{"-out", "OUT", file + "x"}, 1, "no such file"},
		"old is missing":  {[]string{"-out", "OUT", "-compare", file + "x", file}, 1, "no such file"},
		"not results":     {[]string{"-out", "OUT", os.Args[0]}, 1, "not a file of results"},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			args := []string{"report"}
			for _, a := range c.args {
				if a == "OUT" {
					a = out
				}
				args = append(args, a)
			}
			var stdout, stderr bytes.Buffer
			require.Equal(t, c.status, Main(args, &stdout, &stderr), stderr.String())
			require.Contains(t, stderr.String(), c.says)
			if c.status == 0 {
				page, err := os.ReadFile(filepath.Join(out, report.PageFile))
				require.NoError(t, err)
				require.Contains(t, string(page), "What has changed")
				require.Contains(t, stdout.String(), report.PageFile)
			}
		})
	}
}

func TestOutputsAreTriedBeforeTheRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.Error(t, (&outputs{dir: filepath.Join(file, "below")}).prepare())
	require.ErrorContains(t, (&outputs{compare: file}).prepare(), "-compare needs -out")
	require.ErrorIs(t, (&outputs{dir: t.TempDir(), compare: file}).prepare(), result.ErrFormat)
	dir := filepath.Join(t.TempDir(), "new")
	require.NoError(t, (&outputs{dir: dir}).prepare())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)

	var o outputs
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	o.define(fs)
	require.NoError(t, fs.Parse([]string{"-out", dir, "-compare", "x"}))
	require.Equal(t, outputs{dir: dir, compare: "x"}, o)
}

// What was measured before a failure cannot be measured again at will: it is kept, and says what it is.
func TestResultsOfAFailedRunAreKept(t *testing.T) {
	dir := t.TempDir()
	o := outputs{dir: dir}
	require.NoError(t, o.save(io.Discard, oneRun(), errors.New("redis has gone:\nits log")))
	run, err := result.Read(filepath.Join(dir, report.ResultsFile))
	require.NoError(t, err)
	require.True(t, run.Ended.IsZero())
	require.Equal(t, []string{"The run failed: redis has gone."}, run.Notes)
	require.Len(t, run.Points, 1)

	var out bytes.Buffer
	require.NoError(t, o.save(&out, oneRun(), nil))
	run, err = result.Read(filepath.Join(dir, report.ResultsFile))
	require.NoError(t, err)
	require.False(t, run.Ended.IsZero())
	require.Contains(t, out.String(), "Everything was measured once", "what stands on the page's face is said on the terminal too")

	empty := outputs{dir: filepath.Join(dir, "none")}
	require.NoError(t, empty.save(io.Discard, &result.Run{}, nil))
	require.NoDirExists(t, empty.dir)
}
