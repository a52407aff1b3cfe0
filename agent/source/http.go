package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"nodelet/agent/pod"
)

// requestTimeout bounds one request of a manifest.
const requestTimeout = 10 * time.Second

// HTTPConfig says where a manifest is. All fields but Header are needed.
type HTTPConfig struct {
	URL string
	// Header is sent with each request; may be nil.
	Header   http.Header
	NodeName string
	// Period is the time between two requests.
	Period time.Duration
}

// HTTP is the source of the static pods whose manifest is at a URL. When the
// manifest cannot be had or is faulty, the pods stay as they were, and the cause
// is logged once. An empty answer means no pods.
type HTTP struct {
	config HTTPConfig
	// place is the URL as logs may show it.
	place   string
	log     *slog.Logger
	client  *http.Client
	listing *listing
	faults  faults
}

// NewHTTP returns a source that hands pods to sink; nothing is asked before Run.
func NewHTTP(config HTTPConfig, sink Sink, log *slog.Logger) *HTTP {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	place := config.URL
	if u, err := url.Parse(place); err == nil {
		place = u.Redacted()
	}
	return &HTTP{config: config, place: place, log: log, listing: newListing(pod.SourceHTTP, sink),
		client: &http.Client{Timeout: requestTimeout, Transport: transport}}
}

// Run asks for the manifest, at once and in each period, until ctx ends. The
// source is synced after the first good answer.
func (h *HTTP) Run(ctx context.Context) {
	defer h.client.CloseIdleConnections()
	ticker := time.NewTicker(h.config.Period)
	defer ticker.Stop()
	for {
		h.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (h *HTTP) look(ctx context.Context) {
	data, err := h.get(ctx)
	if ctx.Err() != nil {
		return
	}
	switch {
	case err != nil:
	case len(data) == 0:
		h.listing.replace(nil)
		err = errors.New("the answer is empty: no static pods")
	default:
		pods, fault := decode(data, origin{pod.SourceHTTP, h.config.NodeName, h.config.URL})
		if err = fault; err == nil {
			h.listing.replace(pods)
		}
	}
	if err != nil {
		h.faults.tell(h.log, h.place, data, err)
	}
	if h.faults.looked() {
		h.log.Info("Could use the static pods' manifest again", "manifest", h.place)
	}
}

func (h *HTTP) get(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.config.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	if h.config.Header != nil {
		req.Header = h.config.Header.Clone()
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := readAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", resp.Status)
	}
	return data, nil
}
