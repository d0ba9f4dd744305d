package org.dualpix.demo.core;

import java.io.File;

/** Where what lies in the folder of the app: {@code SESSION/}, {@code bench/RUN/}, {@code models/}. */
public final class AppFiles {
    private static final String BENCH = "bench";
    private static final String MODELS = "models";

    private AppFiles() {}

    /**
     * The folder of a capture session.
     *
     * @throws ProtocolException the name is none, or of a folder that has another use
     */
    public static File session(File files, String session) {
        Messages.checkSession(session);
        if (session.equals(BENCH) || session.equals(MODELS)) {
            throw new ProtocolException("session '" + session + "'", "another name");
        }
        return Folders.child(files, session);
    }

    /** The folder of a benchmark; {@link ProtocolException} where the name is none. */
    public static File bench(File files, String run) {
        return Folders.child(new File(files, BENCH), Messages.checkSession(run));
    }

    /** The folder of the networks that the live view can run. */
    public static File models(File files) {
        return new File(files, MODELS);
    }
}
