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

	"github.com/holdfast-db/holdfast/server/verify"
)

const verifyUsage = "verify HOST:PORT HOST:PORT … [--user NAME] [--pass PASSWORD] [--tls] [--cacert FILE] [--json] [--max-differences N] [--wait DURATION] [--max-pause DURATION] [--no-pause]"

var verifyVerb = verb{
	name: "verify", usage: verifyUsage,
	help: "prove that servers hold the same data at the same offset while writes go on, or name the keys that differ; exit status 0 same, 1 different, 2 neither could be found out",
	run: func(args []string, stdout, stderr io.Writer) int {
		var v verify.Command
		fs := flag.NewFlagSet("verify", flag.ContinueOnError)
		fs.SetOutput(stderr)
		fs.StringVar(&v.User, "user", "", "user to authenticate as")
		fs.StringVar(&v.Password, "pass", os.Getenv("REDISCLI_AUTH"), "password; by default REDISCLI_AUTH of the environment")
		fs.BoolVar(&v.TLS, "tls", false, "speak TLS")
		fs.StringVar(&v.CACert, "cacert", "", "certificates (PEM) that sign the servers'; by default the system's")
		fs.BoolVar(&v.JSON, "json", false, "print the report as JSON")
		fs.IntVar(&v.MaxDifferences, "max-differences", 100, "how many keys to name")
		fs.DurationVar(&v.Wait, "wait", time.Minute, "how long a replica may take to reach the offset")
		fs.DurationVar(&v.MaxPause, "max-pause", 30*time.Second, "with a redis-server: how long writes may be held back")
		fs.BoolVar(&v.NoPause, "no-pause", false, "with a redis-server: do not hold writes back; then it is no proof")
		var addrs []string
		for rest := args; ; { // addresses and flags in any order
			if err := fs.Parse(rest); err != nil {
				return 2
			}
			if rest = fs.Args(); len(rest) == 0 {
				break
			}
			addrs, rest = append(addrs, rest[0]), rest[1:]
		}
		if len(addrs) < 2 {
			fmt.Fprintln(stderr, "usage: holdfast "+verifyUsage)
			return 2
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return v.Run(ctx, addrs, stdout, stderr)
	},
}
