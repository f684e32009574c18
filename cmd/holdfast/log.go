package main

import (
	"flag"
	"fmt"
	"io"

	"github.com/holdfast-db/holdfast/server"
)

var logVerb = verb{
	name: "log", usage: "log DIR [--from OFFSET|TIME] [--format resp|json|text]",
	help: "print the log of a data directory that no server has open: what was written, from an offset or a time (RFC 3339) on",
	run: func(args []string, stdout, stderr io.Writer) int {
		if len(args) == 0 {
			fmt.Fprintln(stderr, "usage: holdfast log DIR [--from OFFSET|TIME] [--format resp|json|text]")
			return 2
		}
		fs := flag.NewFlagSet("log", flag.ContinueOnError)
		fs.SetOutput(stderr)
		from := fs.String("from", "", "first offset, or a time as RFC 3339")
		format := fs.String("format", "text", "resp, json or text")
		if err := fs.Parse(args[1:]); err != nil {
			return 2
		}
		if err := server.DumpLog(stdout, args[0], *from, *format); err != nil {
			fmt.Fprintln(stderr, "holdfast: log:", err)
			return 1
		}
		return 0
	},
}
