package org.dualpix.demo.app;

import android.content.Intent;
import android.os.Bundle;
import android.widget.EditText;
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
import org.dualpix.demo.core.FocusPlan;
import org.dualpix.demo.core.Folders;
import org.dualpix.demo.core.Json;
import org.dualpix.demo.core.Messages;
import org.dualpix.demo.core.Messages.Plan;
import org.dualpix.demo.core.ProtocolException;

/** Takes focus stacks: the host's, which names a session that it wrote a plan for, or those of its own buttons. */
public final class CaptureActivity extends Screen {
    private static final DateTimeFormatter TIME = DateTimeFormatter.ofPattern("yyyyMMdd-HHmmss", Locale.ROOT);

    private CaptureSession session;

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        setContentView(R.layout.capture);
        findViewById(R.id.start).setOnClickListener(view -> startOwn());
        findViewById(R.id.stop).setOnClickListener(view -> cancel());
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
            int frames = Integer.parseInt(text(R.id.frames));
            double nearestD = text(R.id.nearest).isEmpty() ? 0 : 100 / Double.parseDouble(text(R.id.nearest));
            String name = "own-" + LocalDateTime.now().format(TIME);
            File folder = AppFiles.session(files(), name);
            CameraPort port = new Camera2Port(this);
            double most = port.describe(null).minFocusD();
            double[] stops = FocusPlan.evenDiopters(0, nearestD > 0 ? nearestD : most, frames);
            Plan plan = FocusPlan.plan(name, stops, null, 0);
            if (!folder.mkdirs()) {
                throw new IOException("the folder '" + name + "' cannot be made");
            }
            Folders.write(new File(folder, Messages.PLAN), Json.write(plan.toJson()));
            start(folder);
        } catch (IOException | CameraFault | IllegalArgumentException | ProtocolException error) {
            say(getString(R.string.failed, error.getMessage()));
        }
    }

    private String text(int id) {
        return ((EditText) findViewById(id)).getText().toString().trim();
    }

    private void start(File folder) {
        cancel();
        StringBuilder lines = new StringBuilder(folder.getName()).append('\n');
        CaptureSession next = new CaptureSession(folder, new Camera2Port(this), PhoneProbe.phone(), version(),
                Clock.SYSTEM, line -> say(lines.append(Messages.lineText(line)).toString()));
        session = next;
        work.execute(() -> {
            try {
                next.run();
            } catch (IOException | RuntimeException error) {
                say(getString(R.string.failed, error.getMessage()));
            }
        });
    }

    private void cancel() {
        if (session != null) {
            session.cancel();
            session = null;
        }
    }
}
