package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/holdfast-db/holdfast/server"
)

const logUsage = "log DIR [--from OFFSET|TIME] [--format resp|json|text] [--follow] [--interval DURATION]"

var logVerb = verb{
	name: "log", usage: logUsage,
	help: "print the log of a data directory, in use or not: what was written, from an offset or a time (RFC 3339) on; with --follow, what comes, too",
	run: func(args []string, stdout, stderr io.Writer) int {
		if len(args) == 0 {
			fmt.Fprintln(stderr, "usage: holdfast "+logUsage)
			return 2
		}
		fs := flag.NewFlagSet("log", flag.ContinueOnError)
		fs.SetOutput(stderr)
		d := server.LogDump{Dir: args[0]}
		fs.StringVar(&d.From, "from", "", "first offset, or a time as RFC 3339")
		fs.StringVar(&d.Format, "format", "text", "resp, json or text")
		follow := fs.Bool("follow", false, "go on with what is written, until interrupted")
		interval := fs.Duration("interval", time.Second, "pause between two looks of --follow")
		if err := fs.Parse(args[1:]); err != nil {
			return 2
		}
		if fs.NArg() > 0 || *interval <= 0 {
			fmt.Fprintln(stderr, "usage: holdfast "+logUsage)
			return 2
		}
		if *follow {
			d.Follow = *interval
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err := server.DumpLog(ctx, stdout, d); err != nil {
			fmt.Fprintln(stderr, "holdfast: log:", err)
			return 1
		}
		return 0
	},
}
