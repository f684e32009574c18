// Package digest computes digests of keys that do not depend on the order in which they are visited: Redis, which equals
// that of DEBUG DIGEST, and Range, which is fast and can forget a key again.
//
// Both are for finding differences between honest copies; neither withstands somebody who chooses keys to collide.
// Nothing here is safe for concurrent use.
package digest
