package servertest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// replyLimit is how long a client waits for a reply: a server that hangs fails its test instead of hanging it.
const replyLimit = 30 * time.Second

// maxReplyBytes bounds one bulk of a reply, so that a length that was read wrongly cannot exhaust memory.
const maxReplyBytes = 1 << 30

// Client is a raw connection: replies come back as the bytes they are, in RESP2 and RESP3. Not for concurrent use.
type Client struct {
	conn net.Conn
	r    *bufio.Reader
	out  []byte
	in   []byte
}

// Dial connects to addr.
func Dial(addr string) (*Client, error) {
	conn, err := net.DialTimeout("tcp", addr, replyLimit)
	if err != nil {
		return nil, err
	}
	return newClient(conn), nil
}

func newClient(conn net.Conn) *Client {
	return &Client{conn: conn, r: bufio.NewReaderSize(conn, 64<<10)}
}

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Send writes one command without waiting for its reply.
func (c *Client) Send(args ...string) error {
	c.out = AppendCommand(c.out[:0], args...)
	if err := c.conn.SetDeadline(time.Now().Add(replyLimit)); err != nil {
		return err
	}
	_, err := c.conn.Write(c.out)
	return err
}

// Receive reads one whole reply and returns its bytes, which are the client's until the next call.
func (c *Client) Receive() ([]byte, error) {
	c.in = c.in[:0]
	if err := c.conn.SetDeadline(time.Now().Add(replyLimit)); err != nil {
		return nil, err
	}
	err := c.reply()
	return c.in, err
}

// Do sends one command and returns the bytes of its reply, which are the client's until the next call.
func (c *Client) Do(args ...string) ([]byte, error) {
	if err := c.Send(args...); err != nil {
		return nil, err
	}
	return c.Receive()
}

// AppendCommand appends a command in RESP to dst.
func AppendCommand(dst []byte, args ...string) []byte {
	dst = append(dst, '*')
	dst = append(strconv.AppendInt(dst, int64(len(args)), 10), "\r\n"...)
	for _, a := range args {
		dst = append(dst, '$')
		dst = append(strconv.AppendInt(dst, int64(len(a)), 10), "\r\n"...)
		dst = append(append(dst, a...), "\r\n"...)
	}
	return dst
}

func (c *Client) reply() error {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return fmt.Errorf("servertest: reply line %q", line)
	}
	kind, text := line[0], string(line[1:len(line)-2])
	c.in = append(c.in, line...)
	switch kind {
	case '+', '-', ':', '_', ',', '#', '(':
		return nil
	case '$', '=', '!', '*', '~', '>', '%', '|':
	default:
		return fmt.Errorf("servertest: reply line %q", c.in)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("servertest: reply line %q: %w", c.in, err)
	}
	if n < 0 {
		return nil // RESP2's null
	}
	switch kind {
	case '$', '=', '!':
		if n > maxReplyBytes {
			return fmt.Errorf("servertest: reply of %d bytes", n)
		}
		at := len(c.in)
		c.in = append(c.in, make([]byte, n+2)...)
		_, err := io.ReadFull(c.r, c.in[at:])
		return err
	case '%', '|':
		n *= 2
	}
	for range n {
		if err := c.reply(); err != nil {
			return err
		}
	}
	if kind == '|' { // attributes precede the reply itself
		return c.reply()
	}
	return nil
}
