package verify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

// Command is holdfast verify: it connects, compares, and prints.
type Command struct {
	User, Password string
	TLS            bool
	CACert         string
	JSON           bool
	MaxDifferences int
	Wait, MaxPause time.Duration
	NoPause        bool
}

// Exit statuses.
const (
	exitSame      = 0
	exitDifferent = 1
	exitTrouble   = 2
)

// Run returns the exit status. Progress goes to stderr if that is a terminal.
func (v *Command) Run(ctx context.Context, addrs []string, stdout, stderr io.Writer) int {
	report, err := v.compare(ctx, addrs, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "holdfast: verify:", err)
		return exitTrouble
	}
	if v.JSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		err = e.Encode(report)
	} else {
		err = report.print(stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "holdfast: verify:", err)
		return exitTrouble
	}
	if !report.Same() {
		return exitDifferent
	}
	return exitSame
}

func (v *Command) compare(ctx context.Context, addrs []string, stderr io.Writer) (*Report, error) {
	access := Access{User: v.User, Password: v.Password}
	if v.TLS {
		access.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		if v.CACert != "" {
			pem, err := os.ReadFile(v.CACert)
			if err != nil {
				return nil, err
			}
			access.TLS.RootCAs = x509.NewCertPool()
			if !access.TLS.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("no certificate in %s", v.CACert)
			}
		}
	}
	var open []*Client
	defer func() {
		for _, c := range open {
			_ = c.Close() // all is read
		}
	}()
	dial := func(addr string) (Server, error) {
		c := Connect(addr, access)
		open = append(open, c)
		return c, nil
	}
	var servers []Server
	for _, addr := range addrs {
		s, err := dial(addr)
		if err != nil {
			return nil, err
		}
		servers = append(servers, s)
	}
	o := Options{MaxDifferences: v.MaxDifferences, Wait: v.Wait, MaxPause: v.MaxPause, NoPause: v.NoPause, Dial: dial}
	if f, ok := stderr.(*os.File); ok {
		if st, err := f.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 {
			o.Progress = func(text string) { fmt.Fprintf(stderr, "\r\x1b[K%s", text) }
			defer fmt.Fprint(stderr, "\r\x1b[K")
		}
	}
	return Run(ctx, servers, o)
}

// print writes the report as text; its last line says what it guarantees.
func (r *Report) print(w io.Writer) error {
	for _, s := range r.Servers {
		if _, err := fmt.Fprintf(w, "%s  %s  offset %d  %d keys\n", s.Addr, s.Role, s.Offset, s.Keys); err != nil {
			return err
		}
	}
	for _, d := range r.Differences {
		detail := ""
		if d.Detail != "" {
			detail = "  " + d.Detail
		}
		if _, err := fmt.Fprintf(w, "%s  db %d  %s  %s%s\n", d.Server, d.DB, strconv.Quote(d.Key), d.How, detail); err != nil {
			return err
		}
	}
	verdict := "same data"
	if !r.Same() {
		verdict = fmt.Sprintf("DIFFERENT: %d keys", r.Differing)
		if r.Truncated || r.Differing > int64(len(r.Differences)) {
			verdict = fmt.Sprintf("DIFFERENT: %d keys or more, %d of them named", r.Differing, len(r.Differences))
		}
	}
	waited := ""
	if r.Waited > 0 {
		waited = fmt.Sprintf(" (%v of it until all stood at one offset)", r.Waited.Round(time.Millisecond))
	}
	_, err := fmt.Fprintf(w, "%s, compared in %v%s; %s\n", verdict, r.Elapsed.Round(time.Millisecond), waited, r.Guarantee)
	return err
}
