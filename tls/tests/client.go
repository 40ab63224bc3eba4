// A client of Go: says and hears much, closes as it should, and comes back with its ticket.

package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	pem, err := os.ReadFile(os.Args[2])
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	cache := tls.NewLRUClientSessionCache(4)
	for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS13, tls.VersionTLS12, tls.VersionTLS12} {
		config := &tls.Config{RootCAs: roots, ServerName: "same.example", MinVersion: version, MaxVersion: version,
			ClientSessionCache: cache, NextProtos: []string{"http/1.1"}}
		client, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[1], config)
		check(err)
		lines := bufio.NewReader(client)
		for _, length := range []int{1, 16384, 16385, 100000} {
			sent := strings.Repeat("g", length) + "\n"
			_, err = io.WriteString(client, sent)
			check(err)
			heard, err := lines.ReadString('\n')
			check(err)
			if heard != sent {
				panic(length)
			}
		}
		_, err = io.WriteString(client, "bye\n")
		check(err)
		// The server's close_notify is the end; without it, this would be an error.
		_, err = lines.ReadByte()
		if err != io.EOF {
			panic(err)
		}
		state := client.ConnectionState()
		fmt.Printf("%x %t\n", state.Version, state.DidResume)
		client.Close()
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
