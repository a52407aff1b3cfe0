package simcluster

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	_ "unsafe" // for go:linkname

	"github.com/go-logr/logr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

// Upstream's components are written to be alone in their process. What they keep
// process-wide is set up here, and nowhere else.
var (
	processOnce sync.Once
	// controllerContexts is held while a controller manager has a name in
	// client-go's process-wide registry of informer names.
	controllerContexts sync.Mutex
)

// etcdClientLogger is the logger of the API server's etcd clients. Upstream has
// it write to stderr, a line for each request that a client gives up, and offers
// no way to change that but an environment variable read before main.
//
//go:linkname etcdClientLogger k8s.io/apiserver/pkg/storage/storagebackend/factory.etcd3ClientLogger
var etcdClientLogger *zap.Logger

// setUpProcess sends klog's output to logger at debug level. Only the first call
// in the process has an effect.
func setUpProcess(logger *slog.Logger) {
	processOnce.Do(func() {
		handler := quiet{logger.With("from", "klog").Handler()}
		klog.SetLoggerWithOptions(logr.FromSlogHandler(handler), klog.ContextualLogger(true))
		// A fatal error, such as a start-up hook of the API server that is
		// stopped in the midst of it, ends the goroutine, not the process.
		// Whether the part as a whole has failed is for its supervisor to see.
		klog.OsExit = func(int) { runtime.Goexit() }
		rest.SetDefaultWarningHandler(rest.NoWarnings{})
		etcdClientLogger = newZapLogger(logger)
	})
}

// quiet is a slog.Handler that takes everything as debugging: upstream calls an
// error what happens in any cluster that starts, stops or loses a node.
type quiet struct{ next slog.Handler }

func (h quiet) Enabled(ctx context.Context, _ slog.Level) bool {
	return h.next.Enabled(ctx, slog.LevelDebug)
}

func (h quiet) Handle(ctx context.Context, r slog.Record) error {
	// logr does not ask whether an error is wanted.
	if !h.Enabled(ctx, r.Level) {
		return nil
	}
	r.AddAttrs(slog.String("severity", r.Level.String()))
	r.Level = slog.LevelDebug
	return h.next.Handle(ctx, r)
}

func (h quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{h.next.WithAttrs(attrs)} }
func (h quiet) WithGroup(name string) slog.Handler       { return quiet{h.next.WithGroup(name)} }

// newZapLogger is etcd's logger: its warnings and errors go to logger at debug
// level.
func newZapLogger(logger *slog.Logger) *zap.Logger {
	return zap.New(&zapCore{LevelEnabler: zapcore.WarnLevel, logger: logger.With("from", "etcd")},
		zap.WithFatalHook(zapcore.WriteThenGoexit))
}

type zapCore struct {
	zapcore.LevelEnabler
	logger *slog.Logger
}

func (c *zapCore) With(fields []zapcore.Field) zapcore.Core {
	return &zapCore{c.LevelEnabler, c.logger.With(zapArgs(fields)...)}
}

func (c *zapCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

func (c *zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.logger.Debug(e.Message, append(zapArgs(fields), "severity", e.Level.CapitalString())...)
	return nil
}

func (c *zapCore) Sync() error { return nil }

func zapArgs(fields []zapcore.Field) []any {
	encoder := zapcore.NewMapObjectEncoder()
	var args []any
	for _, f := range fields {
		f.AddTo(encoder)
	}
	for k, v := range encoder.Fields {
		args = append(args, k, v)
	}
	return args
}
