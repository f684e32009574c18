package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/redcon"
)

// Reply is one RESP2 reply. Text is the caller's.
type Reply struct {
	Kind  byte // '+', '-', ':', '$' or '*'
	Null  bool
	Int   int64
	Text  []byte
	Elems []Reply
}

// Err returns an error reply as an error.
func (r Reply) Err() error {
	if r.Kind == '-' {
		return errors.New(string(r.Text))
	}
	return nil
}

// String renders the reply in one line, for messages and for comparing.
func (r Reply) String() string {
	switch {
	case r.Null:
		return "(nil)"
	case r.Kind == ':':
		return strconv.FormatInt(r.Int, 10)
	case r.Kind == '*':
		parts := make([]string, len(r.Elems))
		for i, e := range r.Elems {
			parts[i] = e.String()
		}
		return "[" + strings.Join(parts, " ") + "]"
	case r.Kind == '-':
		return "(error) " + string(r.Text)
	}
	return string(r.Text)
}

// Client is a connection that speaks RESP2 with as little between it and the socket as possible. Not for concurrent use.
type Client struct {
	conn net.Conn
	r    *bufio.Reader
	out  []byte
}

// ioLimit bounds the wait for a reply, so that a server that hangs fails a run instead of hanging it. A write may wait for a
// checkpoint of all dirty data, which is seconds on a slow disk.
const ioLimit = time.Minute

// Dial connects to addr.
func Dial(addr string) (*Client, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &Client{conn: conn, r: bufio.NewReaderSize(conn, 64<<10)}, nil
}

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// AppendCommand appends a command in RESP to dst.
func AppendCommand(dst []byte, args ...string) []byte {
	dst = redcon.AppendArray(dst, len(args))
	for _, a := range args {
		dst = redcon.AppendBulkString(dst, a)
	}
	return dst
}

// Send writes commands that are already RESP.
func (c *Client) Send(b []byte) error {
	if err := c.conn.SetDeadline(time.Now().Add(ioLimit)); err != nil {
		return err
	}
	_, err := c.conn.Write(b)
	return err
}

// Do sends one command and returns its reply. An error reply is an error, too.
func (c *Client) Do(args ...string) (Reply, error) {
	c.out = AppendCommand(c.out[:0], args...)
	if err := c.Send(c.out); err != nil {
		return Reply{}, err
	}
	r, err := c.Read()
	if err == nil {
		err = r.Err()
	}
	return r, err
}

// Read reads one reply; an error reply is not an error of Read.
func (c *Client) Read() (Reply, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return Reply{}, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return Reply{}, fmt.Errorf("reply line %q", line)
	}
	kind, text := line[0], line[1:len(line)-2]
	switch kind {
	case '+', '-':
		return Reply{Kind: kind, Text: append([]byte(nil), text...)}, nil
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return Reply{}, fmt.Errorf("reply line %q: %w", line, err)
	}
	switch kind {
	case ':':
		return Reply{Kind: kind, Int: n}, nil
	case '$':
		if n < 0 {
			return Reply{Kind: kind, Null: true}, nil
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(c.r, b); err != nil {
			return Reply{}, err
		}
		return Reply{Kind: kind, Text: b[:n]}, nil
	case '*':
		if n < 0 {
			return Reply{Kind: kind, Null: true}, nil
		}
		r := Reply{Kind: kind, Elems: make([]Reply, n)}
		for i := range r.Elems {
			if r.Elems[i], err = c.Read(); err != nil {
				return Reply{}, err
			}
		}
		return r, nil
	}
	return Reply{}, fmt.Errorf("reply line %q", line)
}

// Info returns INFO's fields by name.
func (c *Client) Info() (map[string]string, error) {
	r, err := c.Do("INFO", "everything")
	if err != nil {
		return nil, err
	}
	return parseInfo(string(r.Text)), nil
}

// parseInfo returns the fields of INFO's text by name.
func parseInfo(text string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(text) {
		if name, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name[0] != '#' {
			m[name] = v
		}
	}
	return m
}

// infoInt is a field of INFO as a number; a field that the server does not have is an error.
func infoInt(info map[string]string, name string) (int64, error) {
	v, ok := info[name]
	if !ok {
		return 0, fmt.Errorf("INFO has no field %s", name)
	}
	return strconv.ParseInt(v, 10, 64)
}
