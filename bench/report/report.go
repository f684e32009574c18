// Package report shows a run of the benchmarks: one self-contained page with plots, tables in Markdown, lines for benchstat, and the
// raw file from which all of them can be made again. Everything is computed from the points of the run, the sentences included.
//
// The points of one measurement (the same benchmark, subject and parameters) in several rounds are shown as their median with the
// lowest and the highest. A ratio is taken within a round, where the machine was the same for both sides, and its median shown. The
// subject that others are compared to is the first redis-server of the run.
package report

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/holdfast-db/holdfast/bench/result"
)

// Names of the files that Write leaves in its directory.
const (
	ResultsFile   = "results.json"
	BenchstatFile = "benchstat.txt"
	TablesFile    = "tables.md"
	PageFile      = "index.html"
)

// Write makes dir and leaves the run there in each form. With an old run, tables and page say what has changed since.
func Write(dir string, run, old *result.Run) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	page, err := renderPage(run, old)
	if err != nil {
		return fmt.Errorf("the page: %w", err)
	}
	return errors.Join(
		// First what cannot be measured again.
		result.Write(filepath.Join(dir, ResultsFile), run),
		os.WriteFile(filepath.Join(dir, BenchstatFile), benchstat(run), 0o644),
		os.WriteFile(filepath.Join(dir, TablesFile), tables(run, old), 0o644),
		os.WriteFile(filepath.Join(dir, PageFile), page, 0o644),
	)
}
