package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfast-db/holdfast/wal"
)

// LogDump says what of a log is printed, and how.
type LogDump struct {
	Dir    string // data directory; a server may have it open
	From   string // first offset, or a time (RFC 3339); "" means all that is kept
	Format string // resp, text or json
	// Follow is the pause between two looks for more; 0 prints what is there and ends.
	Follow time.Duration
}

// DumpLog prints the log of a data directory, whether or not a server has it open. Formats: resp (the bytes as they are),
// text (offset, time, database and the command as redis-cli shows it), json (an object a line). An offset inside a record
// begins with the next record, but in resp. Of a log in use it also prints what is written and not yet synced, which a
// power cut may take back. With Follow it goes on until ctx ends, which is no error then.
func DumpLog(ctx context.Context, w io.Writer, d LogDump) error {
	var print func(out *bufio.Writer, r *logRecord) error
	switch d.Format {
	case "resp":
	case "text":
		print = printText
	case "json":
		print = printJSON
	default:
		return fmt.Errorf("unknown format %q: resp, text or json", d.Format)
	}
	path := filepath.Join(d.Dir, "wal")
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%s is not a data directory: %w", d.Dir, err)
	}
	f := follower{path: path, print: print, out: bufio.NewWriter(w)}
	if err := f.first(ctx, d.From); err != nil || d.Follow == 0 {
		return err
	}
	tick := time.NewTicker(d.Follow)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if err := f.more(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// follower prints a log piece by piece. Each look opens the log anew, because an open one shows nothing newer.
type follower struct {
	path  string
	print func(*bufio.Writer, *logRecord) error // nil: the bytes as they are
	out   *bufio.Writer
	at    wal.Offset // behind what has been printed; a record boundary after the first look
}

func (f *follower) first(ctx context.Context, from string) error {
	return f.look(ctx, func(log *wal.Log) (err error) {
		f.at, err = logStart(log, from)
		return err
	})
}

func (f *follower) more(ctx context.Context) error {
	return f.look(ctx, func(log *wal.Log) error {
		switch {
		case f.at < log.First():
			return fmt.Errorf("the log was trimmed up to offset %d, printed is what was before %d", log.First(), f.at)
		case f.at > log.End():
			return fmt.Errorf("the log ends at offset %d now, before what was printed up to %d: a power cut, or another log", log.End(), f.at)
		}
		return nil
	})
}

// look opens the log, asks start what to print first, and prints all there is.
func (f *follower) look(ctx context.Context, start func(*wal.Log) error) (err error) {
	log, err := wal.OpenLive(ctx, wal.Options{Dir: f.path})
	if err != nil {
		return fmt.Errorf("log in %s: %w", f.path, err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	if err := start(log); err != nil {
		return err
	}
	if f.print == nil {
		err = dumpBytes(f.out, log, f.at)
	} else {
		err = dumpRecords(f.out, log, f.at, f.print)
	}
	if err == nil {
		f.at = max(f.at, log.End())
	}
	return errors.Join(err, f.out.Flush())
}

func logStart(log *wal.Log, from string) (wal.Offset, error) {
	if from == "" {
		return log.First(), nil
	}
	if n, err := strconv.ParseInt(from, 10, 64); err == nil {
		if n < int64(log.First()) || n > int64(log.End()) {
			return 0, fmt.Errorf("offset %d is not in the log, which reaches from %d to %d", n, log.First(), log.End())
		}
		return wal.Offset(n), nil
	}
	t, err := time.Parse(time.RFC3339, from)
	if err != nil {
		return 0, fmt.Errorf("%q is neither an offset nor a time such as 2026-01-31T14:05:00Z", from)
	}
	return log.OffsetAt(t)
}

// eachChunk calls fn with the durable bytes from start on, as they stand in chunks.
func eachChunk(log *wal.Log, start wal.Offset, fn func(at wal.Offset, data []byte, unixMs int64, db int) error) (err error) {
	r, err := log.NewReader(start)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for r.Offset() < log.Durable() {
		data, _, err := r.TryNext()
		if err != nil {
			return err
		}
		if len(data) == 0 {
			continue // the end of a walk over the disk; the loop's condition decides
		}
		ms, db := r.ChunkTime()
		if err := fn(r.Offset()-wal.Offset(len(data)), data, ms, db); err != nil {
			return err
		}
	}
	return nil
}

func dumpBytes(out *bufio.Writer, log *wal.Log, start wal.Offset) error {
	return eachChunk(log, start, func(_ wal.Offset, data []byte, _ int64, _ int) error {
		_, err := out.Write(data)
		return err
	})
}

// logRecord is one command of the log.
type logRecord struct {
	offset wal.Offset
	at     time.Time
	db     int
	args   [][]byte
}

func dumpRecords(out *bufio.Writer, log *wal.Log, start wal.Offset, print func(*bufio.Writer, *logRecord) error) error {
	// Records are found from the start of a chunk on: the one that start lies in, or one before it of the same time.
	chunk := start
	if start > log.First() && start < log.End() {
		t, err := log.TimeAt(start)
		if err != nil {
			return err
		}
		if chunk, err = log.OffsetAt(t); err != nil {
			return err
		}
		if chunk > start {
			return fmt.Errorf("time stamps fall before offset %d: the clock was set back; use --format resp", start)
		}
	}
	return eachChunk(log, chunk, func(at wal.Offset, data []byte, ms int64, db int) error {
		r := logRecord{at: time.UnixMilli(ms).UTC(), db: db}
		for len(data) > 0 {
			args, n, err := wal.ReadRecord(data)
			if err == nil && n == 0 {
				err = errors.New("incomplete record")
			}
			if err != nil {
				return fmt.Errorf("offset %d: %w", at, err)
			}
			r.offset, r.args = at, args
			if at >= start {
				if err := print(out, &r); err != nil {
					return err
				}
			}
			if len(args) == 2 && strings.EqualFold(string(args[0]), "select") {
				if r.db, err = strconv.Atoi(string(args[1])); err != nil {
					return fmt.Errorf("offset %d: %w", at, err)
				}
			}
			data = data[n:]
			at += wal.Offset(n)
		}
		return nil
	})
}

const logTimeFormat = "2006-01-02T15:04:05.000Z"

func printText(out *bufio.Writer, r *logRecord) error {
	b := fmt.Appendf(nil, "%d %s db%d", r.offset, r.at.Format(logTimeFormat), r.db)
	for _, a := range r.args {
		b = appendQuoted(append(b, ' '), a)
	}
	_, err := out.Write(append(b, '\n'))
	return err
}

// printJSON prints arguments as strings, or all of them as base64 under another name if one is not UTF-8.
func printJSON(out *bufio.Writer, r *logRecord) error {
	line := struct {
		Offset int64    `json:"offset"`
		Time   string   `json:"time"`
		DB     int      `json:"db"`
		Args   []string `json:"args,omitempty"`
		Base64 [][]byte `json:"args_base64,omitempty"`
	}{Offset: int64(r.offset), Time: r.at.Format(logTimeFormat), DB: r.db}
	for _, a := range r.args {
		if !utf8.Valid(a) {
			line.Args, line.Base64 = nil, r.args
			break
		}
		line.Args = append(line.Args, string(a))
	}
	b, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = out.Write(append(b, '\n'))
	return err
}
