package org.dualpix.demo.core;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.function.Function;
import org.junit.Test;

public class ProtocolTest {
    private static final Map<String, Function<byte[], Messages.Message>> READERS = new HashMap<>();

    static {
        READERS.put("plan", Messages::parsePlan);
        READERS.put("control", Messages::parseControl);
        READERS.put("line", Messages::parseLine);
        READERS.put("stack", Messages::parseStack);
    }

    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    @Test
    public void goldenFilesAreReadAndWrittenTheSame() throws IOException {
        for (String kind : new String[] {"plan", "control", "stack"}) {
            for (String name : Golden.names(kind, ".json")) {
                Messages.Message message = READERS.get(kind).apply(Golden.bytes(name));
                assertEquals(name, Golden.json(name), Json.parse(Json.write(message.toJson())));
            }
        }
    }

    @Test
    public void goldenJournalsAreReadAndWrittenTheSameByteForByte() throws IOException {
        for (String name : Golden.names("journal", ".jsonl")) {
            for (String line : new String(Golden.bytes(name), StandardCharsets.UTF_8).split("\n")) {
                assertEquals(line + "\n", Messages.lineText(Messages.parseLine(utf8(line))));
            }
        }
    }

    @Test
    public void whatIsBadIsRefused() throws IOException {
        for (String name : Golden.names("bad-", ".json")) {
            Function<byte[], Messages.Message> reader = READERS.get(name.split("-")[1]);
            byte[] bytes = Golden.bytes(name);
            assertThrows(name, ProtocolException.class, () -> reader.apply(bytes));
        }
    }

    @Test
    public void theErrorSaysWhereWhatAndWhatWasExpected() throws IOException {
        byte[] bytes = Golden.bytes("bad-plan-diopters-text.json");
        ProtocolException error = assertThrows(ProtocolException.class, () -> Messages.parsePlan(bytes));
        assertEquals("plan.json: frames[0]: diopters is \"0.5\"; expected a number from 0.0 to 1000.0",
                error.getMessage());
    }

    @Test
    public void anotherVersionTellsToInstallTheAppThatBelongs() throws IOException {
        byte[] bytes = Golden.bytes("bad-plan-version.json");
        ProtocolException error = assertThrows(ProtocolException.class, () -> Messages.parsePlan(bytes));
        assertTrue(error.getMessage(), error.getMessage().contains("speaks version 2"));
    }

    @Test
    public void whatIsNoObjectIsRefused() {
        String deep = new String(new char[100_000]).replace('\0', '[');
        String[] bad = {"", "[]", "7", "{", "null", "{\"version\": true}", "\0", deep, "{\"a\": 1} x"};
        for (String text : bad) {
            READERS.forEach((kind, reader) ->
                    assertThrows(kind, ProtocolException.class, () -> reader.apply(utf8(text))));
        }
    }

    @Test
    public void whatIsNoUtf8IsRefused() {
        assertThrows(ProtocolException.class, () -> Messages.parsePlan(new byte[] {'{', '"', (byte) 0xc3, '"', '}'}));
    }

    @Test
    public void aWholeNumberMayBeWrittenWithAPoint() {
        Messages.FrameStart start = (Messages.FrameStart) Messages.parseLine(
                utf8("{\"event\": \"start\", \"time\": \"2026-11-21T16:05:02Z\", \"frame\": 3.0, \"attempt\": 0}"));
        assertEquals(3, start.frame());
    }

    @Test
    public void namesThatWouldDoSomethingElseAreRefused() {
        String[] names = {"a/../../b", "..", "a b", "a;rm", "a\n", "-rf-", "$(id)", "Abc", "é--", "ab", "", null};
        for (String name : names) {
            assertThrows(String.valueOf(name), ProtocolException.class, () -> Messages.checkSession(name));
        }
        assertEquals("who-1", Messages.checkSession("who-1"));
    }

    @Test
    public void fileNamesCarryFrameAndAttempt() {
        assertEquals("frame_007.dng", Messages.frameFile(7, 0, "dng"));
        assertEquals("frame_007_r12.jpg", Messages.frameFile(7, 12, "jpg"));
    }

    @Test
    public void aLongMessageIsCutToWhatTheHostReads() {
        String text = new String(new char[3000]).replace('\0', 'x');
        Messages.Failure failure =
                new Messages.Failure("2026-11-21T16:05:02Z", Messages.FailureKind.CAMERA, text, null, 0);
        assertEquals(failure, Messages.parseLine(utf8(Messages.lineText(failure))));
    }
}
