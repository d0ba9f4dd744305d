package org.dualpix.demo.app;

import android.content.Intent;
import android.graphics.Bitmap;
import android.os.Bundle;
import android.view.View;
import android.widget.EditText;
import android.widget.ImageView;
import android.widget.ToggleButton;
import java.io.File;
import java.io.IOException;
import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.util.Locale;
import org.dualpix.demo.core.AppFiles;
import org.dualpix.demo.core.CameraFault;
import org.dualpix.demo.core.CameraPort;
import org.dualpix.demo.core.CaptureSession;
import org.dualpix.demo.core.Clock;
import org.dualpix.demo.core.Folders;
import org.dualpix.demo.core.Json;
import org.dualpix.demo.core.Messages;
import org.dualpix.demo.core.Network;
import org.dualpix.demo.core.ProtocolException;
import org.dualpix.demo.core.Shown;
import org.dualpix.demo.core.StackDepth;

/**
 * Depth of a focus stack: takes as many frames as the network of {@code models/} wants, and shows what it makes of
 * them.
 *
 * <p>By its own button, or as the host names a session: with a plan, which is taken first, or with frames that are
 * there. {@link StackDepth} does the work; everything stays in the session's folder.
 */
public final class DepthActivity extends Screen {
    private static final int THREADS = 4;
    private static final DateTimeFormatter TIME = DateTimeFormatter.ofPattern("yyyyMMdd-HHmmss", Locale.ROOT);

    private volatile CaptureSession session;
    private StackDepth.Found found;
    private boolean sureOnly;

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        setContentView(R.layout.depth);
        findViewById(R.id.start).setOnClickListener(view -> startOwn());
        ((ToggleButton) findViewById(R.id.sure)).setOnCheckedChangeListener((button, on) -> {
            sureOnly = on;
            show();
        });
        ((ToggleButton) findViewById(R.id.overlay)).setOnCheckedChangeListener((button, on) ->
                findViewById(R.id.depth).setVisibility(on ? View.VISIBLE : View.INVISIBLE));
        if (state == null) {
            startNamed(getIntent());
        }
    }

    @Override
    protected void onNewIntent(Intent intent) {
        super.onNewIntent(intent);
        startNamed(intent);
    }

    @Override
    protected void onDestroy() {
        cancel();
        super.onDestroy();
    }

    private void startNamed(Intent intent) {
        String name = intent.getStringExtra(Messages.SESSION_EXTRA);
        if (name == null) {
            mayUseCamera();
            return;
        }
        try {
            start(AppFiles.session(files(), name));
        } catch (ProtocolException error) {
            say(getString(R.string.failed, error.getMessage()));
        }
    }

    private void startOwn() {
        if (!mayUseCamera()) {
            return;
        }
        try {
            String nearest = ((EditText) findViewById(R.id.nearest)).getText().toString().trim();
            double nearestD = nearest.isEmpty() ? 0 : 100 / Double.parseDouble(nearest);
            String name = "depth-" + LocalDateTime.now().format(TIME);
            File folder = AppFiles.session(files(), name);
            Network network = StackDepth.network(AppFiles.models(files()), null);
            CameraPort port = new Camera2Port(this);
            Messages.Plan plan = StackDepth.plan(name, network, nearestD, port.describe(null).minFocusD());
            if (!folder.mkdirs()) {
                throw new IOException("the folder '" + name + "' cannot be made");
            }
            Folders.write(new File(folder, Messages.PLAN), Json.write(plan.toJson()));
            start(folder);
        } catch (IOException | CameraFault | IllegalArgumentException | ProtocolException error) {
            say(getString(R.string.failed, error.getMessage()));
        }
    }

    private void start(File folder) {
        cancel();
        StringBuilder lines = new StringBuilder(folder.getName()).append('\n');
        CaptureSession next = StackDepth.isTaken(folder) ? null
                : new CaptureSession(folder, new Camera2Port(this), PhoneProbe.phone(), version(), Clock.SYSTEM,
                        line -> say(lines.append(Messages.lineText(line)).toString()));
        session = next;
        work.execute(() -> {
            try (Engine engine = new Engine(getString(R.string.executorch))) {
                if (next != null && next.run() != Messages.EndReason.COMPLETE) {
                    return; // the journal's last lines, which are shown, say why
                }
                say(getString(R.string.depth_wait));
                File models = AppFiles.models(files());
                StackDepth.Found made = StackDepth.run(folder, models, engine, version(), THREADS);
                runOnUiThread(() -> {
                    found = made;
                    show();
                });
            } catch (IOException | RuntimeException | LinkageError error) {
                say(getString(R.string.failed, error.getMessage()));
            }
        });
    }

    private void show() {
        if (found == null) {
            return;
        }
        Shown shown = found.shown(sureOnly);
        findViewById(R.id.sure).setVisibility(shown.sureShare() == null ? View.GONE : View.VISIBLE);
        set(R.id.picture, found.picture(), found.light().width(), found.light().height());
        if (shown.argb() != null) {
            set(R.id.depth, shown.argb(), shown.width(), shown.height());
        }
        StringBuilder text = new StringBuilder(
                getString(R.string.depth_found, found.network().recipe(), found.runS(), shown.said(found.metric())));
        found.notes().forEach(note -> text.append('\n').append(note));
        say(text.toString());
    }

    private void set(int id, int[] argb, int width, int height) {
        ((ImageView) findViewById(id)).setImageBitmap(
                Bitmap.createBitmap(argb, width, height, Bitmap.Config.ARGB_8888));
    }

    private void cancel() {
        CaptureSession running = session;
        if (running != null) {
            running.cancel();
            session = null;
        }
    }
}
