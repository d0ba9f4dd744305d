package org.dualpix.demo.app;

import android.content.Intent;
import android.os.Bundle;
import android.widget.TextView;
import java.io.File;
import java.io.IOException;
import java.util.HashSet;
import java.util.Set;
import org.dualpix.demo.core.AppFiles;
import org.dualpix.demo.core.BenchRequest;
import org.dualpix.demo.core.BenchRunner;
import org.dualpix.demo.core.Json;
import org.dualpix.demo.core.ProtocolException;

/** Measures what the host has pushed: see {@link BenchRequest}. One run after the other. */
public final class BenchActivity extends Screen {
    private final Set<String> started = new HashSet<>();

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        TextView said = new TextView(this);
        said.setId(R.id.said);
        said.setPadding(48, 48, 48, 48);
        setContentView(said);
        if (state == null) {
            start(getIntent());
        }
    }

    @Override
    protected void onNewIntent(Intent intent) {
        super.onNewIntent(intent);
        start(intent);
    }

    private void start(Intent intent) {
        String run = intent.getStringExtra(BenchRequest.RUN_EXTRA);
        if (run == null) {
            say(getString(R.string.bench_none));
            return;
        }
        try {
            File folder = AppFiles.bench(files(), run);
            if (started.add(run)) {
                say(getString(R.string.bench_wait));
                work.execute(() -> measure(folder));
            }
        } catch (ProtocolException error) {
            say(getString(R.string.failed, error.getMessage()));
        }
    }

    private void measure(File folder) {
        String wait = getString(R.string.bench_wait);
        try (Engine engine = new Engine(getString(R.string.executorch))) {
            BenchRunner runner =
                    new BenchRunner(engine, new PhoneProbe(this), version(), what -> say(wait + "\n" + what));
            say(Json.write(runner.run(folder)));
        } catch (IOException | RuntimeException error) {
            say(getString(R.string.failed, error.getMessage()));
        }
    }
}
