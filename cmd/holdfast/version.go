package main

import (
	"fmt"
	"io"

	"github.com/holdfast-db/holdfast/server"
)

var versionVerb = verb{
	name: "version", usage: "version", help: "print the version",
	run: func(_ []string, stdout, _ io.Writer) int {
		fmt.Fprintln(stdout, server.VersionLine())
		return 0
	},
}
