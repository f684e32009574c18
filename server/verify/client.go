package verify

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// Access is how servers are reached.
type Access struct {
	User, Password string
	TLS            *tls.Config // nil: none
	// Dial makes connections, if not nil; TLS is then its matter.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// Client is a Server over the network, with one connection.
type Client struct {
	addr string
	pool *redis.Client
	c    *redis.Conn
}

// replyLimit is for how long a reply may take: a digest of everything is one.
const replyLimit = 10 * time.Minute

// Connect returns the server at host:port. It connects with the first command. The caller calls Close.
func Connect(addr string, a Access) *Client {
	o := &redis.Options{Addr: addr, Username: a.User, Password: a.Password, TLSConfig: a.TLS, Protocol: 2, PoolSize: 1,
		MaxRetries: -1, ReadTimeout: replyLimit, DisableIdentity: true, ContextTimeoutEnabled: true}
	if a.Dial != nil {
		o.Dialer = func(ctx context.Context, _, addr string) (net.Conn, error) { return a.Dial(ctx, addr) }
	}
	pool := redis.NewClient(o)
	return &Client{addr: addr, pool: pool, c: pool.Conn()}
}

// Addr implements Server.
func (c *Client) Addr() string { return c.addr }

// Close closes the connection.
func (c *Client) Close() error { return errors.Join(c.c.Close(), c.pool.Close()) }

// Do implements Server.
func (c *Client) Do(ctx context.Context, args ...any) (any, error) {
	r, err := c.c.Do(ctx, args...).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return r, err
}

// Pipeline implements Server.
func (c *Client) Pipeline(ctx context.Context, commands [][]any) ([]any, error) {
	if len(commands) == 0 {
		return nil, nil
	}
	p := c.c.Pipeline()
	for _, args := range commands {
		p.Do(ctx, args...)
	}
	cmds, err := p.Exec(ctx)
	out := make([]any, len(cmds))
	for i, cmd := range cmds {
		v, cerr := cmd.(*redis.Cmd).Result()
		var reply redis.Error
		switch {
		case errors.Is(cerr, redis.Nil):
		case errors.As(cerr, &reply):
			out[i] = cerr
		case cerr != nil:
			return nil, errors.Join(cerr, err)
		default:
			out[i] = v
		}
	}
	return out, nil
}
