//go:build !unix

package main

func clearUmask() {}
