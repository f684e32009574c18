// Holdfast is a durable store that speaks Redis's protocol. Each verb of this program has a file of its own, without
// logic: that is in the packages.
package main

import (
	"fmt"
	"io"
	"os"
)

// verb is one thing that the program can do. run returns the exit status.
type verb struct {
	name, usage, help string
	run               func(args []string, stdout, stderr io.Writer) int
}

func verbs() []verb {
	return []verb{serveVerb, checkVerb, verifyVerb, logVerb, benchVerb, versionVerb, {
		name: "help", usage: "help", help: "print this text",
		run: func(_ []string, stdout, _ io.Writer) int { usage(stdout); return 0 },
	}}
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return 2
	}
	switch args[0] {
	case "--help", "-h":
		args = []string{"help"}
	case "--version", "-v":
		args = []string{"version"}
	}
	for _, v := range verbs() {
		if v.name != args[0] {
			continue
		}
		if len(args) == 2 && (args[1] == "--help" || args[1] == "-h") {
			fmt.Fprintf(stdout, "usage: holdfast %s\n\n%s\n", v.usage, v.help)
			return 0
		}
		return v.run(args[1:], stdout, stderr)
	}
	fmt.Fprintf(stderr, "holdfast: unknown verb %q; holdfast help lists them\n", args[0])
	return 2
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "holdfast is a durable store that speaks Redis's protocol.")
	fmt.Fprintln(w)
	for _, v := range verbs() {
		fmt.Fprintf(w, "  holdfast %s\n      %s\n", v.usage, v.help)
	}
}
