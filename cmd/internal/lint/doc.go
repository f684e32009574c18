// Package lint has no code: its tests hold the rules of the house.
package lint
