package verify

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// Access is how servers are reached.
type Access struct {
	User, Password string
	TLS            *tls.Config // nil: none
}

// client is a Server over the network, with one connection.
type client struct {
	addr string
	pool *redis.Client
	c    *redis.Conn
}

// replyLimit is for how long a reply may take: a digest of everything is one.
const replyLimit = 10 * time.Minute

// Connect returns the server at host:port. It connects with the first command. The caller calls Close.
func Connect(addr string, a Access) *client {
	pool := redis.NewClient(&redis.Options{Addr: addr, Username: a.User, Password: a.Password, TLSConfig: a.TLS, Protocol: 2, PoolSize: 1,
		MaxRetries: -1, ReadTimeout: replyLimit, DisableIdentity: true})
	return &client{addr: addr, pool: pool, c: pool.Conn()}
}

// Addr implements Server.
func (c *client) Addr() string { return c.addr }

// Close closes the connection.
func (c *client) Close() error { return errors.Join(c.c.Close(), c.pool.Close()) }

// Do implements Server.
func (c *client) Do(ctx context.Context, args ...any) (any, error) {
	r, err := c.c.Do(ctx, args...).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return r, err
}

// Pipeline implements Server.
func (c *client) Pipeline(ctx context.Context, commands [][]any) ([]any, error) {
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
