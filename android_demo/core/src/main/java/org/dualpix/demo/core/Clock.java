package org.dualpix.demo.core;

import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Locale;

/** Time, so that tests need not wait for it. */
public interface Clock {
    /** Time that only runs forward, in ms. */
    long millis();

    /** The time of day as the protocol writes it. */
    String utc();

    /** Waits; an interrupt ends it early and stays set. */
    void sleep(long millis);

    /** The real one. */
    Clock SYSTEM = new Clock() {
        private final DateTimeFormatter form =
                DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", Locale.ROOT).withZone(ZoneOffset.UTC);

        @Override
        public long millis() {
            return System.nanoTime() / 1_000_000;
        }

        @Override
        public String utc() {
            return form.format(Instant.now());
        }

        @Override
        public void sleep(long millis) {
            try {
                Thread.sleep(millis);
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            }
        }
    };
}
