package com.facebook.soloader.nativeloader;

/** Loads native libraries by whoever was chosen for it. */
public final class NativeLoader {
    private static NativeLoaderDelegate delegate;

    private NativeLoader() {}

    public static synchronized boolean isInitialized() {
        return delegate != null;
    }

    public static synchronized void init(NativeLoaderDelegate chosen) {
        if (delegate == null) {
            delegate = chosen;
        }
    }

    public static boolean loadLibrary(String name) {
        NativeLoaderDelegate chosen;
        synchronized (NativeLoader.class) {
            init(new SystemDelegate());
            chosen = delegate;
        }
        return chosen.loadLibrary(name, 0);
    }
}
