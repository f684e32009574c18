package bench

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-db/holdfast/bench/report"
	"github.com/holdfast-db/holdfast/bench/result"
)

// outputs is where the points of a run go, and what they are compared with.
type outputs struct {
	dir     string
	compare string
	old     *result.Run
}

func (o *outputs) define(fs *flag.FlagSet) {
	fs.StringVar(&o.dir, "out", "", "`directory` for the page with the plots, tables, benchstat's lines and the raw results; empty for none")
	fs.StringVar(&o.compare, "compare", "", "`results.json` of an earlier run: tables and page say what has changed")
}

// prepare finds out before hours of measuring whether what is to be read and written can be.
func (o *outputs) prepare() error {
	if o.compare != "" {
		if o.dir == "" {
			return errors.New("-compare needs -out")
		}
		var err error
		if o.old, err = result.Read(o.compare); err != nil {
			return err
		}
	}
	if o.dir == "" {
		return nil
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(o.dir, "writable.*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// save writes what was measured, and of a run that failed on the way what it had by then.
func (o *outputs) save(out io.Writer, run *result.Run, failed error) error {
	if o.dir == "" || len(run.Points) == 0 {
		return nil
	}
	if failed == nil {
		run.Ended = time.Now().UTC()
	} else {
		// What a server said before it died is below the first line, and on the terminal.
		cause, _, _ := strings.Cut(failed.Error(), "\n")
		run.Notes = append(run.Notes, fmt.Sprintf("The run failed: %s.", strings.TrimRight(cause, ":. ")))
	}
	if err := report.Write(o.dir, run, o.old); err != nil {
		return err
	}
	for _, text := range report.Face(run) {
		fmt.Fprintln(out, text)
	}
	fmt.Fprintf(out, "written to %s\n", filepath.Join(o.dir, report.PageFile))
	return nil
}

// renderAgain makes the page and the tables from a file of results: report RESULTS.json -out DIR [-compare OLD.json]. Flags may
// stand on both sides of the file.
func renderAgain(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("holdfast bench report", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprintf(stderr, "usage: holdfast bench report -out DIR [-compare OLD.json] RESULTS.json\n")
		fs.PrintDefaults()
	}
	var o outputs
	o.define(fs)
	var files []string
	for rest := args; len(rest) > 0; rest = fs.Args() {
		if err := fs.Parse(rest); err != nil {
			return 2
		}
		if fs.NArg() == 0 {
			break
		}
		files = append(files, fs.Arg(0))
		if err := fs.Parse(fs.Args()[1:]); err != nil {
			return 2
		}
	}
	if len(files) != 1 || o.dir == "" {
		fs.Usage()
		return 2
	}
	run, err := result.Read(files[0])
	if err == nil {
		err = o.prepare()
	}
	if err == nil {
		err = report.Write(o.dir, run, o.old)
	}
	if err != nil {
		fmt.Fprintf(stderr, "holdfast bench report: %v\n", err)
		return 1
	}
	fmt.Fprintf(stdout, "written to %s\n", filepath.Join(o.dir, report.PageFile))
	return 0
}
