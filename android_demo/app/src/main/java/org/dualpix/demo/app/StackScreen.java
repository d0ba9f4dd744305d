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
import org.dualpix.demo.core.Folders;
import org.dualpix.demo.core.Json;
import org.dualpix.demo.core.Messages;
import org.dualpix.demo.core.Messages.Plan;
import org.dualpix.demo.core.ProtocolException;

/** A screen that takes focus stacks: the host's, which names a session, or those of its own button. */
abstract class StackScreen extends Screen {
    private static final DateTimeFormatter TIME = DateTimeFormatter.ofPattern("yyyyMMdd-HHmmss", Locale.ROOT);

    private volatile CaptureSession session;

    /** What the names of its own sessions begin with. */
    abstract String prefix();

    /**
     * The plan of a session of its own.
     *
     * @throws IOException what it needs is not there
     * @throws CameraFault the camera does not say what it can
     */
    abstract Plan ownPlan(String name, CameraPort port) throws IOException, CameraFault;

    /** Begins the session in a folder, by {@link #taking} where frames are to be taken. */
    abstract void start(File folder);

    /** The last that {@code onCreate} does: the button, and a session that the host named. */
    void listen(Bundle state) {
        findViewById(R.id.start).setOnClickListener(view -> startOwn());
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
            String name = prefix() + LocalDateTime.now().format(TIME);
            File folder = AppFiles.session(files(), name);
            Plan plan = ownPlan(name, new Camera2Port(this));
            if (!folder.mkdirs()) {
                throw new IOException("the folder '" + name + "' cannot be made");
            }
            Folders.write(new File(folder, Messages.PLAN), Json.write(plan.toJson()));
            start(folder);
        } catch (IOException | CameraFault | IllegalArgumentException | ProtocolException error) {
            say(getString(R.string.failed, error.getMessage()));
        }
    }

    /** What was typed. */
    String text(int id) {
        return ((EditText) findViewById(id)).getText().toString().trim();
    }

    /** The nearest focus that was asked for, in diopters; 0 for none. */
    double nearestD() {
        return text(R.id.nearest).isEmpty() ? 0 : 100 / Double.parseDouble(text(R.id.nearest));
    }

    /** A session to be run, whose journal is shown; it ends with the screen, or by {@link #cancel}. */
    CaptureSession taking(File folder) {
        StringBuilder lines = new StringBuilder(folder.getName()).append('\n');
        CaptureSession next = new CaptureSession(folder, new Camera2Port(this), PhoneProbe.phone(), version(),
                Clock.SYSTEM, line -> say(lines.append(Messages.lineText(line)).toString()));
        session = next;
        return next;
    }

    /** Ends the session that runs, if one does. */
    void cancel() {
        CaptureSession running = session;
        if (running != null) {
            running.cancel();
            session = null;
        }
    }
}
