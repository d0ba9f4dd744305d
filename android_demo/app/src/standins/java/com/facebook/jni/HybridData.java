package com.facebook.jni;

import java.lang.ref.PhantomReference;
import java.lang.ref.ReferenceQueue;
import java.util.Collections;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/** Owns a native object, which ends with it: at {@link #resetNative}, or once nobody holds this any more. */
public class HybridData {
    private final Destructor mDestructor = new Destructor(this);

    /** Ends the native object now. */
    public synchronized void resetNative() {
        mDestructor.destruct();
    }

    /** Whether there is a native object. */
    public boolean isValid() {
        return mDestructor.mNativePointer != 0;
    }

    /** What is left when the owner is gone: enough to end the native object. {@code libfbjni.so} sets the pointer. */
    public static class Destructor extends PhantomReference<Object> {
        private static final ReferenceQueue<Object> GONE = new ReferenceQueue<>();
        private static final Set<Destructor> ALIVE = Collections.newSetFromMap(new ConcurrentHashMap<>());

        static {
            Thread cleaner = new Thread(Destructor::clean, "HybridData");
            cleaner.setDaemon(true);
            cleaner.start();
        }

        private volatile long mNativePointer;

        Destructor(Object owner) {
            super(owner, GONE);
            ALIVE.add(this);
        }

        synchronized void destruct() {
            long pointer = mNativePointer;
            mNativePointer = 0;
            ALIVE.remove(this);
            if (pointer != 0) {
                deleteNative(pointer);
            }
        }

        private static void clean() {
            while (true) {
                try {
                    ((Destructor) GONE.remove()).destruct();
                } catch (InterruptedException error) {
                    return;
                }
            }
        }

        static native void deleteNative(long pointer);
    }
}
