package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-db/holdfast/server/engine"
)

var checkVerb = verb{
	name: "check", usage: "check DIR",
	help: "verify a data directory that no server has open: log, snapshot store, and the two against each other",
	run: func(args []string, stdout, stderr io.Writer) int {
		if len(args) != 1 {
			fmt.Fprintln(stderr, "usage: holdfast check DIR")
			return 2
		}
		err := engine.Check(context.Background(), engine.Options{Dir: args[0]}, func(line string) { fmt.Fprintln(stdout, line) })
		if err != nil {
			fmt.Fprintln(stderr, "holdfast: check failed:", strings.ReplaceAll(err.Error(), "\n", "; "))
			return 1
		}
		fmt.Fprintln(stdout, "ok")
		return 0
	},
}
