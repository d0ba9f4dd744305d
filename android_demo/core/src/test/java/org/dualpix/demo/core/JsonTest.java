package org.dualpix.demo.core;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertThrows;

import java.util.Arrays;
import java.util.Random;
import org.junit.Test;

public class JsonTest {
    @Test
    public void whatIsWrittenIsReadTheSame() {
        Object value = Json.object("a", Arrays.asList(1L, -2.5, 1e-7, true, false, null), "ü\n\"\\\u0001\ud83d\ude00",
                Json.object(), "long", Long.MAX_VALUE, "empty", Arrays.asList());
        assertEquals(value, Json.parse(Json.write(value)));
    }

    @Test
    public void doublesSurviveExactly() {
        Random random = new Random(1);
        for (int i = 0; i < 2000; i++) {
            double value = Double.longBitsToDouble(random.nextLong());
            if (Math.abs(value) < Double.POSITIVE_INFINITY) {
                assertEquals(value, Golden.number(Json.parse(Json.write(value))), 0);
            }
        }
    }

    @Test
    public void itIsWrittenAsPythonDoes() {
        assertEquals("{\"a\": [1, 2.5, null, true], \"b\": \"\\u00fc\\n\\u2028\", \"c\": {}, \"d\": []}", Json.write(
                Json.object("a", Arrays.asList(1, 2.5, null, true), "b", "ü\n\u2028", "c", Json.object(), "d",
                        Arrays.asList())));
    }

    @Test
    public void whatIsNoNumberIsNotWritten() {
        assertThrows(IllegalArgumentException.class, () -> Json.write(Double.NaN));
        assertThrows(IllegalArgumentException.class, () -> Json.write(Arrays.asList(Float.POSITIVE_INFINITY)));
        assertThrows(IllegalArgumentException.class, () -> Json.write(new Object()));
    }

    @Test
    public void whatIsNoJsonIsRefused() {
        String[] bad = {"", " ", "01", "-", "1.", ".5", "1e", "1e999", "+1", "NaN", "Infinity", "tru", "nul", "'a'",
            "\"", "\"\t\"", "\"\\x\"", "\"\\u12g4\"", "[1,]", "[1 2]", "[", "{\"a\"}", "{\"a\":}", "{a: 1}",
            "{\"a\": 1,}", "[1] 2"};
        for (String text : bad) {
            assertThrows(text, ProtocolException.class, () -> Json.parse(text));
        }
    }

    @Test
    public void smallThings() {
        assertNull(Json.parse(" null "));
        assertEquals(-0.5e-3, Json.parse("-0.5E-3"));
        assertEquals(1e19, Json.parse("10000000000000000000"));
        assertEquals(Long.MIN_VALUE, Json.parse("-9223372036854775808"));
        assertEquals("a/ü", Json.parse("\"a\\/\\u00FC\""));
    }

    @Test
    public void cutAnywhereItIsRefused() {
        String text = "{\"a\": [1, {\"b\": \"c\\n\"}], \"d\": -1.5e3}";
        for (int i = 0; i < text.length(); i++) {
            String cut = text.substring(0, i);
            assertThrows(cut, ProtocolException.class, () -> Json.parse(cut));
        }
    }
}
