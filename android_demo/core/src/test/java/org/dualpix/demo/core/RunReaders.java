package org.dualpix.demo.core;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;

/** Reads lines {@code kind TAB message} and writes for each the message as it was understood, or null. */
public final class RunReaders {
    private RunReaders() {}

    public static void main(String[] arguments) throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String line;
        while ((line = in.readLine()) != null) {
            String[] parts = line.split("\t", 2);
            Object understood = null;
            try {
                understood = read(parts[0], parts[1].getBytes(StandardCharsets.UTF_8)).toJson();
            } catch (ProtocolException refused) {
                // null it stays
            }
            System.out.println(Json.write(understood));
        }
    }

    private static Messages.Message read(String kind, byte[] utf8) {
        switch (kind) {
            case "plan":
                return Messages.parsePlan(utf8);
            case "control":
                return Messages.parseControl(utf8);
            case "stack":
                return Messages.parseStack(utf8);
            default:
                return Messages.parseLine(utf8);
        }
    }
}
