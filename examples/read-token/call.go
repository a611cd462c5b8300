// Calls Asset's API with the token in a mounted Secret: reads the file for each request, and once more after a 401.
package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// begin: read
var dir = cmp.Or(os.Getenv("ASSET_TOKEN_DIR"), "/var/run/secrets/asset")

// tokenFile adds the mounted token to each request; use it as an http.Client's Transport.
type tokenFile struct{ next http.RoundTripper }

func (t tokenFile) RoundTrip(request *http.Request) (*http.Response, error) {
	authorization, err := os.ReadFile(filepath.Join(dir, "authorization"))
	if err != nil {
		return nil, err
	}
	request = request.Clone(request.Context())
	request.Header.Set("Authorization", string(authorization))
	return t.next.RoundTrip(request)
}

func call(path string) ([]byte, error) {
	base, err := os.ReadFile(filepath.Join(dir, "base_url"))
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: tokenFile{http.DefaultTransport}, Timeout: 30 * time.Second}
	for _, waits := range []time.Duration{0, 5, 30, 60} { // a renewed token may reach a mounted file over a minute late
		time.Sleep(waits * time.Second)
		response, err := client.Get(string(base) + path)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return body, err
		}
		if response.StatusCode != http.StatusUnauthorized {
			return nil, fmt.Errorf("Asset answered %s", response.Status)
		}
	}
	return nil, fmt.Errorf("Asset refuses the token: look at the AssetToken's conditions")
}

// end: read

func main() {
	body, err := call("/v0/ping")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(string(body))
}
